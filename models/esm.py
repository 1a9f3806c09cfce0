"""ESM (Rives et al. 2021, Meier et al. 2021, Lin et al. 2023) with FLIP's poolings and head, frozen or fine-tuned."""

from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from datasets.batches.batch import Batch
from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.features.encoder import FrozenPart, Scope
from datasets.sequences.tokenizer import EsmTokenizer, Tokenizer
from datasets.task import Announce, Task
from models.backbones.frozen_encoder import FrozenLayers, Weights
from models.backbones.lora import LoraTarget, add_lora
from models.backbones.names import BACKBONES, BackboneName
from models.backbones.transformer import Backbone
from models.backbones.weights import find_weights, read_weights
from models.bounds import Depth, Fraction, Interval, NonNegativeFloat, NonNegativeInt, PositiveFloat, Width
from models.fitness_model import FitnessModel
from models.layers.pooling import AttentionPooling, masked_mean, residues_only
from models.memory import Memory, transformer_memory

_SCOPES: dict[str, Scope] = {"mean": "mean", "mutation_mean": "region", "attention": "tokens"}


class ESM(FitnessModel):
    """A protein language model, a pooling over residues, and FLIP's two-layer head (`baselines/models.py`).

    Args:
        backbone: fair-esm's name of the language model.
        pretrained: with its weights; False leaves them random (FLIP's ESM-untrained).
        representation_layer: the layer whose states are pooled, those above are left out; None is the last.
        pooling: `mean` over residues, `mutation_mean` over the task's mutated region, learned `attention`.
        adaptation: `frozen`; `last_k` trains the last `fine_tune_depth` layers; `lora` trains low-rank changes.
        fine_tune_depth: layers that are trained, 0 for none; all of them trains the embedding too.
        lora_rank, lora_alpha: rank of the changes (0 unless the adaptation is `lora`), and their scale.
        lora_targets: the projections that are changed, in every layer.
        head_width: units between the head's two layers; FLIP has as many as the backbone.
        head_dropout: fraction of them that is dropped while training.
        lr_head, lr_backbone: AdamW's learning rates.
        weight_decay: AdamW's, on everything that is trained.
        warmup_steps: optimizer steps over which the learning rates rise from 0.
        activation_checkpointing: compute activations twice instead of keeping them; the results are the same.
        compile_backbone: make faster kernels of trained layers with torch.compile; bits may change.
        feature_precision: what the frozen layers compute in: as the trainer does, or in one of the others, with
            features in float32. `auto` is for studies, which record one of these in its place.
    """

    def __init__(
        self,
        *,
        backbone: BackboneName,
        pretrained: bool,
        representation_layer: Depth | None,
        pooling: Literal["mean", "mutation_mean", "attention"],
        adaptation: Literal["frozen", "last_k", "lora"],
        fine_tune_depth: Annotated[int, Interval(ge=0, limit=1000)],
        lora_rank: Annotated[int, Interval(ge=0, limit=4096)],
        lora_alpha: PositiveFloat,
        lora_targets: list[LoraTarget],
        head_width: Width,
        head_dropout: Fraction,
        lr_head: PositiveFloat,
        lr_backbone: PositiveFloat,
        weight_decay: NonNegativeFloat,
        warmup_steps: NonNegativeInt,
        activation_checkpointing: bool,
        compile_backbone: bool,
        feature_precision: Literal["trainer", "auto", "32-true", "bf16-mixed"] = "trainer",
    ) -> None:
        super().__init__()
        self.shape = BACKBONES[backbone]
        self.n_layers = representation_layer or self.shape.n_layers
        self.n_trained_layers = fine_tune_depth if adaptation == "last_k" else 0
        _check(backbone, self.n_layers, adaptation, fine_tune_depth, lora_rank, lora_targets)
        self.backbone_name = backbone
        self.is_pretrained = pretrained
        self.max_residues = self.shape.max_residues
        self.pooling = pooling
        self.has_lora = adaptation == "lora"
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.lora_targets = lora_targets
        self.lr_head = lr_head
        self.lr_backbone = lr_backbone
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.activation_checkpointing = activation_checkpointing
        self.compile_backbone = compile_backbone
        self.feature_precision = feature_precision
        width = self.shape.width
        self.attention = AttentionPooling(width) if pooling == "attention" else None
        self.head = nn.Sequential(nn.Linear(width, head_width), nn.ReLU(), nn.Dropout(head_dropout))
        self.output = nn.Linear(head_width, 1)
        self.backbone: Backbone | None = None
        self._weights = Weights(name=backbone, path=None)

    @property
    def tokenizer(self) -> Tokenizer:
        """ESM's alphabet."""
        return EsmTokenizer()

    @property
    def n_frozen_layers(self) -> int:
        """The layers below the first one that is trained: what they compute is cached."""
        return 0 if self.has_lora else self.n_layers - self.n_trained_layers

    def check_task(self, task: Task) -> None:
        """Refuse `mutation_mean` without a mutated region."""
        if self.pooling == "mutation_mean" and task.region is None:
            raise UserError(
                f"model.pooling=mutation_mean needs a mutated region and {task.name} has none: "
                "use model.pooling=mean or model.pooling=attention."
            )

    def fetch(self, places: Places, announce: Announce) -> None:
        """Find or download the weights, and look whether they are those of the backbone."""
        if self.is_pretrained:
            self.weights_name = self.backbone_name
            path = find_weights(self.backbone_name, weights_dir=places.weights_dir, announce=announce)
            read_weights(path, self.backbone_name)
            self._weights = Weights(name=self.backbone_name, path=path)
        self.backbone_hash = self._weights.hash

    def build(self, places: Places) -> None:
        """Load the layers that are trained."""
        if self.n_frozen_layers == self.n_layers:
            return
        self.backbone = self._weights.load(n_layers=self.n_layers)
        self.backbone.checkpointing = self.activation_checkpointing
        if self.has_lora:
            add_lora(self.backbone, rank=self.lora_rank, alpha=self.lora_alpha, targets=self.lora_targets)
        elif self.n_frozen_layers > 0:
            for index in range(self.n_frozen_layers):  # what they compute comes with the batch
                self.backbone.layers[index] = nn.Identity()
            for name, parameter in self.backbone.named_parameters():
                parameter.requires_grad_(not name.startswith("emb") or name.startswith("emb_layer_norm_after"))
        if self.compile_backbone:
            self.backbone.compile_layers()

    def frozen_part(self, places: Places, precision: str, device: torch.device) -> FrozenPart | None:
        """The layers below the first one that is trained; a frozen backbone's features are kept pooled as well.

        Raises:
            UserError: The precision of features was left to a study, and there is none.
        """
        if self.n_frozen_layers == 0:
            return None
        if self.feature_precision == "auto":
            raise UserError(
                "model.feature_precision=auto is chosen when a search begins its study, and here is none: use "
                "model.feature_precision=32-true or model.feature_precision=bf16-mixed."
            )
        is_own = self.feature_precision != "trainer"
        encoder = FrozenLayers(
            self._weights,
            n_layers=self.n_frozen_layers,
            precision=self.feature_precision if is_own else precision,
            device=device,
            keeps_float32=is_own,
        )
        is_frozen = self.n_trained_layers == 0
        return FrozenPart(
            encoder=encoder,
            scope=_SCOPES[self.pooling] if is_frozen else "tokens",
            also=("mean", "region", "tokens") if is_frozen else (),
            what=f"sequences through {self.backbone_name}",
        )

    def memory(self, precision: str) -> Memory:
        """An estimate from the backbone's shape."""
        width = self.shape.width
        layer = 12 * width**2  # four attention projections, two feed-forward matrices of 4 D
        n_kept = self.n_layers - self.n_frozen_layers
        n_lora = self.lora_rank * sum({"fc1": 5, "fc2": 5}.get(name, 2) for name in self.lora_targets) * width
        lora_weights = sum({"fc1": 4, "fc2": 4}.get(name, 1) for name in self.lora_targets) * width**2
        is_mixed = precision in ("bf16-mixed", "16-mixed")
        return transformer_memory(
            width=width,
            # While features are computed, the frozen layers are held as well.
            n_frozen=layer * (self.n_layers if self.has_lora else self.n_frozen_layers),
            n_trained=self.n_layers * n_lora if self.has_lora else layer * self.n_trained_layers,
            n_layers_kept=n_kept,
            is_checkpointed=self.activation_checkpointing,
            bytes_per_value=3 if is_mixed else 4,
            # Autocast keeps a copy of each weight for the backward pass.
            n_cast=layer * (1 if self.activation_checkpointing else n_kept) if is_mixed else 0,
            has_pooled_features=n_kept == 0 and self.pooling != "attention",
            # LoRA's weights are computed layer by layer, and kept for the backward pass.
            n_materialised=lora_weights * (1 if self.activation_checkpointing else n_kept) if self.has_lora else 0,
        )

    def arithmetic(self, n_rows: int, longest: int, batch_size: int) -> int:
        """That of the backbone's layers, which are not held before they are needed; frozen ones see batches, too."""
        return 12 * self.shape.width**2 * self.n_layers * min(n_rows, batch_size) * longest

    @property
    def n_parameters(self) -> int:
        """All parameters, those of frozen layers included that are not held any more."""
        held = super().n_parameters
        dropped = self.n_frozen_layers * (12 * self.shape.width**2 + 13 * self.shape.width)
        return held + dropped

    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,), from features where the batch has them."""
        pooled = batch.features if batch.features is not None and batch.features.dim() == 2 else self._pooled(batch)
        hidden = self.head(pooled.to(self.output.weight.dtype))
        with torch.autocast(hidden.device.type, enabled=False):  # predictions in bfloat16 would tie
            prediction: Tensor = self.output(hidden.to(self.output.weight.dtype))
        return prediction.squeeze(-1).float()

    def _pooled(self, batch: Batch) -> Tensor:
        states = batch.features
        if self.backbone is not None:
            if states is None:
                states = self.backbone.embed(batch.tokens)
            states = self.backbone.run(states.float(), batch.mask, self.n_frozen_layers, self.n_layers)
        assert states is not None
        if self.pooling == "mutation_mean":
            return masked_mean(states, batch.region)
        residues = residues_only(batch.mask, self.tokenizer.n_prefix, self.tokenizer.n_suffix)
        residues = residues & (batch.tokens != EsmTokenizer.linker)
        return masked_mean(states, residues) if self.attention is None else self.attention(states, residues)

    # Lightning takes such mappings in a list, too, and its annotation knows only those of a class of its own.
    def configure_optimizers(self) -> tuple[list[AdamW], list[dict[str, Any]]]:  # type: ignore[override]
        """AdamW with one group for the backbone and one for what is on top of it, and a linear warm-up."""
        backbone = [] if self.backbone is None else [p for p in self.backbone.parameters() if p.requires_grad]
        inside = {id(parameter) for parameter in ([] if self.backbone is None else self.backbone.parameters())}
        on_top = [parameter for parameter in self.parameters() if id(parameter) not in inside]
        groups = [{"params": on_top, "lr": self.lr_head}]
        if backbone:
            groups.append({"params": backbone, "lr": self.lr_backbone})
        optimizer = AdamW(groups, weight_decay=self.weight_decay, fused=True)
        schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (self.warmup_steps + 1)))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def _check(
    backbone: str, n_layers: int, adaptation: str, fine_tune_depth: int, lora_rank: int, lora_targets: list[LoraTarget]
) -> None:
    """Refuse hyperparameters that contradict each other: a ValueError, which becomes a sentence about the config."""
    available = BACKBONES[backbone].n_layers
    if n_layers > available:
        raise ValueError(f"representation_layer={n_layers} is not valid: {backbone} has {available} layers.")
    if fine_tune_depth > n_layers:
        raise ValueError(f"fine_tune_depth={fine_tune_depth} is not valid: there are {n_layers} layers to train.")
    if adaptation != "last_k" and fine_tune_depth > 0:
        raise ValueError(
            f"fine_tune_depth={fine_tune_depth} contradicts adaptation={adaptation}: use adaptation=last_k or 0."
        )
    if adaptation != "lora" and lora_rank > 0:
        raise ValueError(f"lora_rank={lora_rank} contradicts adaptation={adaptation}: use adaptation=lora or 0.")
    if len(set(lora_targets)) < len(lora_targets):
        raise ValueError(f"lora_targets={lora_targets} names a projection twice: name each once.")
    if adaptation == "lora" and (lora_rank < 1 or not lora_targets):
        raise ValueError("adaptation=lora needs a lora_rank of at least 1 and lora_targets.")
