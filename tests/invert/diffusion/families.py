"""A small random pipeline of each family that reads more than CLIP, with tokenizers trained here.

The shapes follow diffusers' own tests. Each is saved as published ones are, in less than a megabyte.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

FAMILIES = ("FLUX", "Stable Diffusion 3", "Qwen-Image", "PixArt")
TEXTS = ("a photo of a fox and two owls under a red umbrella", "a small house by the sea at night", "the quick brown dog")
WIDTH = 32  # of text encoders


def trained(model: Any, trainer: Any, before: Any) -> dict[str, Any]:
    """The vocabulary of a tokenizer trained on the texts."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = before
    tokenizer.train_from_iterator(TEXTS, trainer)
    learned: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return learned


def t5_tokenizer() -> T5Tokenizer:
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    learned = trained(models.Unigram(), trainer, pre_tokenizers.Metaspace())
    return T5Tokenizer(vocab=[tuple(row) for row in learned["vocab"]], extra_ids=0, model_max_length=512)


def byte_pairs(special: list[str], before: Any, alphabet: list[str], **more: Any) -> dict[str, Any]:
    learned = trained(
        models.BPE(**more), trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet, **more), before
    )
    return {"vocab": learned["vocab"], "merges": [tuple(pair) for pair in learned["merges"]]}


def qwen_tokenizer() -> Qwen2Tokenizer:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    before = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return Qwen2Tokenizer(**byte_pairs(special, before, pre_tokenizers.ByteLevel.alphabet()))


def clip_tokenizer() -> CLIPTokenizer:
    special = ["<|startoftext|>", "<|endoftext|>"]
    learned = byte_pairs(special, pre_tokenizers.Whitespace(), [], end_of_word_suffix="</w>")
    return CLIPTokenizer(**learned, model_max_length=77)


def t5_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    shape = {"d_model": WIDTH, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4, "relative_attention_num_buckets": 8}
    return T5EncoderModel(T5Config(vocab_size=len(tokenizer), **shape))


def clip_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        projection_dim=WIDTH, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip


def autoencoder(blocks: int, latents: int, shift: float | None) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks, up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(4,) * blocks, norm_num_groups=1, latent_channels=latents, use_quant_conv=False,
        use_post_quant_conv=False, shift_factor=shift,
    )  # fmt: skip


def flux() -> FluxPipeline:
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=autoencoder(1, 1, 0.06), transformer=transformer, tokenizer=clip,
        text_encoder=CLIPTextModel(clip_config(clip)), tokenizer_2=t5, text_encoder_2=t5_encoder(t5),
    )  # fmt: skip


def stable_diffusion_3() -> StableDiffusion3Pipeline:
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=32, pos_embed_max_size=32, patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=2 * WIDTH, pooled_projection_dim=2 * WIDTH,
    )  # fmt: skip
    t5_model = T5EncoderModel(T5Config(vocab_size=len(t5), d_model=2 * WIDTH, d_kv=8, d_ff=37, num_layers=1, num_heads=4))
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), vae=autoencoder(2, 4, 0.06),
        text_encoder=CLIPTextModelWithProjection(clip_config(clip)), tokenizer=clip,
        text_encoder_2=CLIPTextModelWithProjection(clip_config(clip)), tokenizer_2=clip,
        text_encoder_3=t5_model, tokenizer_3=t5,
    )  # fmt: skip


def qwen_image() -> QwenImagePipeline:
    tokenizer, width = qwen_tokenizer(), 16
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=width, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    text = {
        "hidden_size": width, "intermediate_size": width, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "vocab_size": len(tokenizer), "rope_theta": 1e6,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": width, "intermediate_size": width, "num_heads": 2, "out_hidden_size": width}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    config.text_config.bos_token_id = config.text_config.eos_token_id = 0
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae, transformer=transformer, tokenizer=tokenizer,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config),
    )  # fmt: skip


def pixart() -> PixArtSigmaPipeline:
    tokenizer = t5_tokenizer()
    transformer = PixArtTransformer2DModel(
        sample_size=32, patch_size=2, in_channels=4, out_channels=8, num_layers=1, attention_head_dim=8, num_attention_heads=3,
        caption_channels=WIDTH, cross_attention_dim=24, num_embeds_ada_norm=1000,
    )  # fmt: skip
    return PixArtSigmaPipeline(
        tokenizer=tokenizer, text_encoder=t5_encoder(tokenizer), vae=autoencoder(4, 4, None), transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    )  # fmt: skip


MAKERS = dict(zip(FAMILIES, (flux, stable_diffusion_3, qwen_image, pixart), strict=True))


def small_pipeline(family: str) -> Any:
    """The family's architecture at a tiny fraction of its size, random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # diffusers' modules take no generator
        return MAKERS[family]()
