# docker build -t invert .                                   without a GPU
# docker build -t invert:cuda --build-arg TORCH=cu130 .      for NVIDIA cards (docker run --gpus all)
FROM python:3.12-slim

# cpu, or a CUDA version as https://download.pytorch.org/whl/ names it
ARG TORCH=cpu
# of the package: diffusion, compare, app, shards, ray, siglip, heic
ARG EXTRAS=diffusion,app,shards

WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY clustering clustering
COPY kernels kernels
COPY invert invert

# The constraints' CUDA wheels belong to PyPI's build of torch: they would be in the way of another one.
RUN grep -vE '^(nvidia-|cuda-|triton|torch)' constraints.txt > /tmp/constraints.txt \
    && grep -E '^(torch|torchvision)==' constraints.txt > /tmp/torch.txt \
    && pip install --no-cache-dir -r /tmp/torch.txt --index-url "https://download.pytorch.org/whl/${TORCH}" \
    && pip install --no-cache-dir -c /tmp/constraints.txt -c /tmp/torch.txt ".[${EXTRAS}]" \
    && rm -rf /source /tmp/*.txt

# Weights, tables and compiled kernels are kept in a volume; pictures are mounted where the command runs.
ENV INVERT_CACHE=/cache/invert HF_HOME=/cache/huggingface NUMBA_CACHE_DIR=/cache/numba
RUN useradd --create-home --uid 1000 invert && mkdir -p /cache /pictures && chown invert /cache /pictures
USER 1000
VOLUME /cache
WORKDIR /pictures
ENTRYPOINT ["invert"]
CMD ["--help"]
