"""`--analyze`: the best phrases of each category for every picture, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from invert.analysis import Analysis
from invert.cli.batch import KEPT, Job, Subject
from invert.cli.table import print_table
from invert.cli.terminal import complain, encoding_of, progress, say
from invert.escape import escaped
from invert.images import thumbnail
from invert.report import Entry


class AnalysisJob(Job):
    """The same run as of a `Job`, with an analysis of every subject in place of its prompts."""

    wanted = "an analysis"

    def __init__(self, *job: Any, phrases: Mapping[str, tuple[str, ...]]) -> None:
        """job: as for a `Job`. phrases: category → the user's own."""
        super().__init__(*job)
        self.phrases = phrases

    def invert_all(self, subjects: Iterable[Subject], several: bool) -> None:
        for subject in subjects:
            try:
                analysis = self.analyzed(subject)
            except Exception as error:
                self.tell(error, f" while analyzing {subject.label}")
                continue
            if self.outputs.report is not None:
                pictures = [thumbnail(image, KEPT) for image in subject.pictures]
                self.entries.append(Entry(subject.label, pictures, [], analysis))
            self.print_analysis(subject, analysis, several)
            self.printed += 1
            if self.interrupts.received is not None:
                complain(f"{self.interrupts.word} after {self.printed} of the images")
                self.status = self.interrupts.status
                return

    def analyzed(self, subject: Subject) -> Analysis:
        with progress(f"analyzing {subject.label}"):
            return self.inverter.analyze(
                subject.pictures, self.outputs.top, phrases=self.phrases, config=self.config, negative=self.negative
            )

    def print_analysis(self, subject: Subject, analysis: Analysis, several: bool) -> None:
        if self.outputs.as_json:
            say(json.dumps({"image": subject.label, **analysis.to_json()}))
        else:
            print_table(analysis_table(analysis, subject.label if several else None))


def analysis_table(analysis: Analysis, label: str | None = None) -> Table:
    """A row for every phrase, the category beside its first; the label as title, where there is one."""
    encoding = encoding_of(sys.stdout)
    table = Table("category", "phrase", "cosine", title=None if label is None else Text(escaped(label, encoding)))
    for category, best in analysis.categories.items():
        for i, (phrase, score) in enumerate(best):
            cells = ("" if i else category, phrase, f"{score:.3f}")
            table.add_row(*(Text(escaped(cell, encoding)) for cell in cells), end_section=i == len(best) - 1)
    return table
