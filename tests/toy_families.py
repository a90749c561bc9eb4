"""Tiny random models of Hugging Face families: one table for every test that converts a model."""

import torch
import transformers
from torch import nn

SIZE = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2,
    vocab_size=97, bos_token_id=0, eos_token_id=1, pad_token_id=2, max_position_embeddings=256,
)
CONFIGS = {  # the families that every converter of the part supports
    "llama": lambda **new: transformers.LlamaConfig(**SIZE | dict(tie_word_embeddings=True) | new),
    "mistral": lambda **new: transformers.MistralConfig(**SIZE | new),
    "qwen2": lambda **new: transformers.Qwen2Config(**SIZE | dict(tie_word_embeddings=True) | new),
    "qwen3": lambda **new: transformers.Qwen3Config(**SIZE | dict(head_dim=8) | new),
    "phi3": lambda **new: transformers.Phi3Config(**SIZE | new),
}
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
MIXTURES = {  # of experts, which transformers keeps in tensors of three dimensions
    "mixtral": lambda **new: transformers.MixtralConfig(**SIZE | dict(num_local_experts=4, num_experts_per_tok=2) | new),
    "qwen2_moe": lambda **new: transformers.Qwen2MoeConfig(**SIZE | EXPERTS | dict(shared_expert_intermediate_size=64) | new),
    "qwen3_moe": lambda **new: transformers.Qwen3MoeConfig(**SIZE | EXPERTS | dict(head_dim=8) | new),
}
OTHERS = MIXTURES | {  # models that some converters refuse
    "gpt2": lambda **new: transformers.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=97, n_positions=64),
}


def family(name: str, **options) -> nn.Module:
    "A random model of a family in eval mode, frozen, with gains and biases that are not trivial"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config((CONFIGS | OTHERS)[name](**options)).eval().requires_grad_(False)
        for key, weight in model.named_parameters():
            if "norm" in key or "ln_" in key:
                weight.uniform_(0.5, 1.5)
            elif weight.ndim == 1:
                weight.normal_(0, 0.1)
            else:
                weight.normal_(0, 0.3 if "embed" in key else weight.shape[-1] ** -0.5)
    return model
