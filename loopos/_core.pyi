# Written by `python .ci/stubs.py` from the compiled extension; change the bindings, not this file.
# ruff: noqa
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing

"\nThe C++ core of LoopOS.\n"

class ImageEncoderF32:
    """
    An encoder of pictures of one dtype; loopos.vision.ImageEncoder is its public face.
    """

    def __init__(self, config: dict, seed: typing.SupportsInt | typing.SupportsIndex | None) -> None:
        """
        seed: of the initial weights; None leaves them as the memory is, to be written before anything else.
        """

    def _add_plant(self, fault: dict) -> int:
        """
        Puts a fault (a dict of phase, op, tensor, index, value, flag, step, micro) into accumulate and trace; returns its number.
        """

    def _remove_plant(self, number: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Takes it out; returns how often it has fired.
        """

    def accumulate(
        self,
        images: typing.Any,
        labels: typing.Any,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        add: bool = False,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
        final_from: typing.Any = None,
    ) -> tuple:
        """
        As accumulate of a transformer.
        """

    def forward(self, images: typing.Any) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        Rows (B, P, C) of images (B, height, width, channels): the result of the final norm.
        """

    def grad_norm(self) -> float:
        """
        The Euclidean norm of all gradients together, in double.
        """

    def gradient_buffer(self) -> numpy.typing.NDArray[numpy.float32]:
        """
        A view of all of them as one array (N,), in that order; zeros stand between the tensors.
        """

    def gradients(self) -> dict:
        """
        Views of the gradients of the trainable parameters, in that order.
        """

    def held_bytes(self) -> float:
        """
        Bytes of workspace and gradients that earlier passes have left.
        """

    def ledger(self) -> list:
        """
        The tensors of the last trace(), in the order of execution, as dicts.
        """

    def logits(self, images: typing.Any) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        Of a classifier: (B, num_classes).
        """

    def loss(
        self, images: typing.Any, labels: typing.Any, ignore_index: typing.SupportsInt | typing.SupportsIndex = -100
    ) -> tuple:
        """
        (sum of losses, number of labels (B) that count).
        """

    def parameters(self, trainable: typing.Any = None, writable: bool = True) -> dict:
        """
        Views of the weights by name, in order of execution; of those alone that are (True) or are not (False) trainable. writable: False gives views that are read-only for good.
        """

    def raised(self) -> list:
        """
        The operations of the last accumulate() that raised floating-point flags, in the order of a pass, as dicts: phase, layer, op, tensor (the first that the operation gave), flags, finite (all of that tensor, and attention's scores).
        """

    def set_trainable(self, name: str, trainable: bool) -> None:
        """
        False freezes a parameter: it has no gradient and keeps its bits. Gradients that were accumulated are given up when this changes.
        """

    def square_sums(
        self, first: typing.SupportsInt | typing.SupportsIndex, last: typing.SupportsInt | typing.SupportsIndex
    ) -> numpy.typing.NDArray[numpy.float64]:
        """
        The sums of squares that grad_norm() adds, in their order: of the blocks of 8192 numbers of gradient_buffer() from `first` up to `last`, which is not one of them.
        """

    def trace(
        self,
        images: typing.Any,
        labels: typing.Any,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        frames: typing.SupportsInt | typing.SupportsIndex = 65536,
        tap: typing.Any = None,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> typing.Any:
        """
        As trace of a transformer.
        """

    def weight_views(self) -> tuple[int, int]:
        """
        (a number that grows whenever writable views of the weights are given out, how many are left).
        """

    def workspace_bytes(
        self,
        batch: typing.SupportsInt | typing.SupportsIndex,
        time: typing.SupportsInt | typing.SupportsIndex,
        training: bool,
        *,
        scored: bool = True,
        compared: bool = False,
    ) -> float:
        """
        Bytes that a pass over so many pictures takes beside weights and gradients: planned, not taken. The arguments are those of a transformer; time is 1.
        """

    @property
    def precision(self) -> str:
        """
        Of the products: float32, bf16x3 or bf16.
        """

    @precision.setter
    def precision(self, arg1: str) -> None: ...
    @property
    def products(self) -> str:
        """
        What they are computed with here: fma, tiles NAME or emulated NAME; float64.
        """

class ImageEncoderF64:
    """
    An encoder of pictures of one dtype; loopos.vision.ImageEncoder is its public face.
    """

    def __init__(self, config: dict, seed: typing.SupportsInt | typing.SupportsIndex | None) -> None:
        """
        seed: of the initial weights; None leaves them as the memory is, to be written before anything else.
        """

    def _add_plant(self, fault: dict) -> int:
        """
        Puts a fault (a dict of phase, op, tensor, index, value, flag, step, micro) into accumulate and trace; returns its number.
        """

    def _remove_plant(self, number: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Takes it out; returns how often it has fired.
        """

    def accumulate(
        self,
        images: typing.Any,
        labels: typing.Any,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        add: bool = False,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
        final_from: typing.Any = None,
    ) -> tuple:
        """
        As accumulate of a transformer.
        """

    def forward(self, images: typing.Any) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        Rows (B, P, C) of images (B, height, width, channels): the result of the final norm.
        """

    def grad_norm(self) -> float:
        """
        The Euclidean norm of all gradients together, in double.
        """

    def gradient_buffer(self) -> numpy.typing.NDArray[numpy.float64]:
        """
        A view of all of them as one array (N,), in that order; zeros stand between the tensors.
        """

    def gradients(self) -> dict:
        """
        Views of the gradients of the trainable parameters, in that order.
        """

    def held_bytes(self) -> float:
        """
        Bytes of workspace and gradients that earlier passes have left.
        """

    def ledger(self) -> list:
        """
        The tensors of the last trace(), in the order of execution, as dicts.
        """

    def logits(self, images: typing.Any) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        Of a classifier: (B, num_classes).
        """

    def loss(
        self, images: typing.Any, labels: typing.Any, ignore_index: typing.SupportsInt | typing.SupportsIndex = -100
    ) -> tuple:
        """
        (sum of losses, number of labels (B) that count).
        """

    def parameters(self, trainable: typing.Any = None, writable: bool = True) -> dict:
        """
        Views of the weights by name, in order of execution; of those alone that are (True) or are not (False) trainable. writable: False gives views that are read-only for good.
        """

    def raised(self) -> list:
        """
        The operations of the last accumulate() that raised floating-point flags, in the order of a pass, as dicts: phase, layer, op, tensor (the first that the operation gave), flags, finite (all of that tensor, and attention's scores).
        """

    def set_trainable(self, name: str, trainable: bool) -> None:
        """
        False freezes a parameter: it has no gradient and keeps its bits. Gradients that were accumulated are given up when this changes.
        """

    def square_sums(
        self, first: typing.SupportsInt | typing.SupportsIndex, last: typing.SupportsInt | typing.SupportsIndex
    ) -> numpy.typing.NDArray[numpy.float64]:
        """
        The sums of squares that grad_norm() adds, in their order: of the blocks of 8192 numbers of gradient_buffer() from `first` up to `last`, which is not one of them.
        """

    def trace(
        self,
        images: typing.Any,
        labels: typing.Any,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        frames: typing.SupportsInt | typing.SupportsIndex = 65536,
        tap: typing.Any = None,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> typing.Any:
        """
        As trace of a transformer.
        """

    def weight_views(self) -> tuple[int, int]:
        """
        (a number that grows whenever writable views of the weights are given out, how many are left).
        """

    def workspace_bytes(
        self,
        batch: typing.SupportsInt | typing.SupportsIndex,
        time: typing.SupportsInt | typing.SupportsIndex,
        training: bool,
        *,
        scored: bool = True,
        compared: bool = False,
    ) -> float:
        """
        Bytes that a pass over so many pictures takes beside weights and gradients: planned, not taken. The arguments are those of a transformer; time is 1.
        """

    @property
    def precision(self) -> str:
        """
        Of the products: float32, bf16x3 or bf16.
        """

    @precision.setter
    def precision(self, arg1: str) -> None: ...
    @property
    def products(self) -> str:
        """
        What they are computed with here: fma, tiles NAME or emulated NAME; float64.
        """

class SnapshotEncoderF32:
    """
    A network of snapshots of one dtype; loopos.covariance.CovarianceNetwork is its public face.
    """

    def __init__(self, config: dict, seed: typing.SupportsInt | typing.SupportsIndex | None) -> None:
        """
        seed: of the initial weights; None leaves them as the memory is, to be written before anything else.
        """

    def _add_plant(self, fault: dict) -> int:
        """
        Puts a fault (a dict of phase, op, tensor, index, value, flag, step, micro) into accumulate and trace; returns its number.
        """

    def _remove_plant(self, number: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Takes it out; returns how often it has fired.
        """

    def accumulate(
        self,
        rows: typing.Any,
        numbers: typing.Any,
        *,
        between: typing.Any,
        scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        add: bool = False,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
        final_from: typing.Any = None,
    ) -> tuple:
        """
        numbers (B): one for each sample, which nothing here reads. between(output) -> (sum of losses, gradient of the output, gradient by the blend) is called once, and its gradients are taken as they are: scale, ignore_index and label_smoothing, of a transformer, do nothing.
        """

    def forward(self, rows: typing.Any) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        (B, outputs) of rows (B, L, channels); (B, L outputs) where each row has its own.
        """

    def grad_norm(self) -> float:
        """
        The Euclidean norm of all gradients together, in double.
        """

    def gradient_buffer(self) -> numpy.typing.NDArray[numpy.float32]:
        """
        A view of all of them as one array (N,), in that order; zeros stand between the tensors.
        """

    def gradients(self) -> dict:
        """
        Views of the gradients of the trainable parameters, in that order.
        """

    def held_bytes(self) -> float:
        """
        Bytes of workspace and gradients that earlier passes have left.
        """

    def ledger(self) -> list:
        """
        The tensors of the last trace(), in the order of execution, as dicts.
        """

    def parameters(self, trainable: typing.Any = None, writable: bool = True) -> dict:
        """
        Views of the weights by name, in order of execution; of those alone that are (True) or are not (False) trainable. writable: False gives views that are read-only for good.
        """

    def raised(self) -> list:
        """
        The operations of the last accumulate() that raised floating-point flags, in the order of a pass, as dicts: phase, layer, op, tensor (the first that the operation gave), flags, finite (all of that tensor, and attention's scores).
        """

    def set_trainable(self, name: str, trainable: bool) -> None:
        """
        False freezes a parameter: it has no gradient and keeps its bits. Gradients that were accumulated are given up when this changes.
        """

    def square_sums(
        self, first: typing.SupportsInt | typing.SupportsIndex, last: typing.SupportsInt | typing.SupportsIndex
    ) -> numpy.typing.NDArray[numpy.float64]:
        """
        The sums of squares that grad_norm() adds, in their order: of the blocks of 8192 numbers of gradient_buffer() from `first` up to `last`, which is not one of them.
        """

    def trace(
        self,
        rows: typing.Any,
        numbers: typing.Any,
        *,
        between: typing.Any,
        scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        frames: typing.SupportsInt | typing.SupportsIndex = 65536,
        tap: typing.Any = None,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> typing.Any:
        """
        As trace of a transformer.
        """

    def weight_views(self) -> tuple[int, int]:
        """
        (a number that grows whenever writable views of the weights are given out, how many are left).
        """

    def workspace_bytes(
        self,
        batch: typing.SupportsInt | typing.SupportsIndex,
        time: typing.SupportsInt | typing.SupportsIndex,
        training: bool,
        *,
        scored: bool = True,
        compared: bool = False,
    ) -> float:
        """
        Bytes that a pass over so many samples of `time` rows takes beside weights and gradients: planned, not taken.
        """

    @property
    def precision(self) -> str:
        """
        Of the products: float32, bf16x3 or bf16.
        """

    @precision.setter
    def precision(self, arg1: str) -> None: ...
    @property
    def products(self) -> str:
        """
        What they are computed with here: fma, tiles NAME or emulated NAME; float64.
        """

class SnapshotEncoderF64:
    """
    A network of snapshots of one dtype; loopos.covariance.CovarianceNetwork is its public face.
    """

    def __init__(self, config: dict, seed: typing.SupportsInt | typing.SupportsIndex | None) -> None:
        """
        seed: of the initial weights; None leaves them as the memory is, to be written before anything else.
        """

    def _add_plant(self, fault: dict) -> int:
        """
        Puts a fault (a dict of phase, op, tensor, index, value, flag, step, micro) into accumulate and trace; returns its number.
        """

    def _remove_plant(self, number: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Takes it out; returns how often it has fired.
        """

    def accumulate(
        self,
        rows: typing.Any,
        numbers: typing.Any,
        *,
        between: typing.Any,
        scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        add: bool = False,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
        final_from: typing.Any = None,
    ) -> tuple:
        """
        numbers (B): one for each sample, which nothing here reads. between(output) -> (sum of losses, gradient of the output, gradient by the blend) is called once, and its gradients are taken as they are: scale, ignore_index and label_smoothing, of a transformer, do nothing.
        """

    def forward(self, rows: typing.Any) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        (B, outputs) of rows (B, L, channels); (B, L outputs) where each row has its own.
        """

    def grad_norm(self) -> float:
        """
        The Euclidean norm of all gradients together, in double.
        """

    def gradient_buffer(self) -> numpy.typing.NDArray[numpy.float64]:
        """
        A view of all of them as one array (N,), in that order; zeros stand between the tensors.
        """

    def gradients(self) -> dict:
        """
        Views of the gradients of the trainable parameters, in that order.
        """

    def held_bytes(self) -> float:
        """
        Bytes of workspace and gradients that earlier passes have left.
        """

    def ledger(self) -> list:
        """
        The tensors of the last trace(), in the order of execution, as dicts.
        """

    def parameters(self, trainable: typing.Any = None, writable: bool = True) -> dict:
        """
        Views of the weights by name, in order of execution; of those alone that are (True) or are not (False) trainable. writable: False gives views that are read-only for good.
        """

    def raised(self) -> list:
        """
        The operations of the last accumulate() that raised floating-point flags, in the order of a pass, as dicts: phase, layer, op, tensor (the first that the operation gave), flags, finite (all of that tensor, and attention's scores).
        """

    def set_trainable(self, name: str, trainable: bool) -> None:
        """
        False freezes a parameter: it has no gradient and keeps its bits. Gradients that were accumulated are given up when this changes.
        """

    def square_sums(
        self, first: typing.SupportsInt | typing.SupportsIndex, last: typing.SupportsInt | typing.SupportsIndex
    ) -> numpy.typing.NDArray[numpy.float64]:
        """
        The sums of squares that grad_norm() adds, in their order: of the blocks of 8192 numbers of gradient_buffer() from `first` up to `last`, which is not one of them.
        """

    def trace(
        self,
        rows: typing.Any,
        numbers: typing.Any,
        *,
        between: typing.Any,
        scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        frames: typing.SupportsInt | typing.SupportsIndex = 65536,
        tap: typing.Any = None,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> typing.Any:
        """
        As trace of a transformer.
        """

    def weight_views(self) -> tuple[int, int]:
        """
        (a number that grows whenever writable views of the weights are given out, how many are left).
        """

    def workspace_bytes(
        self,
        batch: typing.SupportsInt | typing.SupportsIndex,
        time: typing.SupportsInt | typing.SupportsIndex,
        training: bool,
        *,
        scored: bool = True,
        compared: bool = False,
    ) -> float:
        """
        Bytes that a pass over so many samples of `time` rows takes beside weights and gradients: planned, not taken.
        """

    @property
    def precision(self) -> str:
        """
        Of the products: float32, bf16x3 or bf16.
        """

    @precision.setter
    def precision(self, arg1: str) -> None: ...
    @property
    def products(self) -> str:
        """
        What they are computed with here: fma, tiles NAME or emulated NAME; float64.
        """

class TransformerF32:
    """
    A decoder-only transformer of one dtype; loopos.Model is its public face.
    """

    def __init__(self, config: dict, seed: typing.SupportsInt | typing.SupportsIndex | None) -> None:
        """
        seed: of the initial weights; None leaves them as the memory is, to be written before anything else.
        """

    def _add_plant(self, fault: dict) -> int:
        """
        Puts a fault (a dict of phase, op, tensor, index, value, flag, step, micro) into accumulate and trace; returns its number.
        """

    def _remove_plant(self, number: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Takes it out; returns how often it has fired.
        """

    def accumulate(
        self,
        ids: typing.Any,
        targets: typing.Any,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        add: bool = False,
        documents: typing.Any = None,
        teaching: typing.Any = None,
        between: typing.Any = None,
        images: typing.Any = None,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
        final_from: typing.Any = None,
    ) -> tuple:
        """
        Forward and backward; gradients = scale * d(sum of losses), or += with `add`. Returns (sum, count, healthy); healthy False: ask raised() and trace(). teaching, here and in trace: None, or a dict: loss (kl, mse, normalized_mse or cosine), hidden (B, T, C): what hidden() of the teacher gave, or with layers "all" (L, B, T, C), what hidden_states() did, teacher: it, or None for this model, temperature, weight, cross_entropy: the loss of a position is cross_entropy times its own plus weight times the teacher's. between: None, or (of, fn): fn(array) gives (loss, gradient), once for the whole batch, of its hidden states (B, T, C), its logits (B, T, V) or its losses (B, T, float64); scale is the function's affair. first_row: of a batch that is a shard of a larger one, where it begins in it. final_from: None, or a function that backward calls on its way, where it takes the batch as a whole: in gradient_buffer() the numbers from this place to the end will not change any more in this call.
        """

    def adapter_enabled(self, on: bool) -> None:
        """
        False: the model computes as without its adapter, which stays.
        """

    def add_adapter(self, parts: list) -> None:
        """
        Adds low-rank parts to projections and freezes the model's own parameters. parts: dicts of projection (blocks.0.attn.qkv_proj), name (of its parameters, before .lora_A and .lora_B), first and rows (of the projection's output), rank, scale, dropout (of its input in training steps), and dora (False unless given: with True there is .lora_magnitude, too). A and B begin as 0, magnitudes as the lengths of the weight's rows.
        """

    def add_modulation(
        self,
        rank: typing.SupportsInt | typing.SupportsIndex,
        gate: str,
        additive_scale: typing.SupportsFloat | typing.SupportsIndex,
        safe_mode: bool,
    ) -> None:
        """
        Adds to every block what its attention does to the input of its feed-forward (layers/modulation.h), and freezes the model's own parameters. gate: as of ops.modulate; safe_mode: none. Every matrix begins as 0.
        """

    def extend_generation(self, length: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        More room, with what the cache holds.
        """

    def forward(
        self, ids: typing.Any, documents: typing.Any = None, images: typing.Any = None
    ) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        Logits (B, T, V) of ids (B, T). documents, here and below: None, or (B, T), integers that never fall along a row; a token sees its own document alone, in which positions begin at 0. images, here and below: of a captioner, (B, height, width, channels).
        """

    def generation(self) -> tuple[int, int, int]:
        """
        (number of the generation, positions that the cache holds, positions there is room for).
        """

    def get_stored(self, name: str) -> tuple:
        """
        The bytes of a stored weight and its errors, copied.
        """

    def grad_norm(self) -> float:
        """
        The Euclidean norm of all gradients together, in double.
        """

    def gradient_buffer(self) -> numpy.typing.NDArray[numpy.float32]:
        """
        A view of all of them as one array (N,), in that order; zeros stand between the tensors.
        """

    def gradients(self) -> dict:
        """
        Views of the gradients of the trainable parameters, in that order.
        """

    def held_bytes(self) -> float:
        """
        Bytes of workspace and gradients that earlier passes have left.
        """

    def hidden(
        self, ids: typing.Any, documents: typing.Any = None, images: typing.Any = None
    ) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        What the head is given: the result of the final norm (B, T, C).
        """

    def hidden_states(
        self, ids: typing.Any, documents: typing.Any = None
    ) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        What flows out of each block, of the last one what the final norm makes of it: (L, B, T, C).
        """

    def ledger(self) -> list:
        """
        The tensors of the last trace(), in the order of execution, as dicts.
        """

    def load_stored(
        self,
        name: str,
        first: typing.SupportsInt | typing.SupportsIndex,
        rows: typing.SupportsInt | typing.SupportsIndex,
    ) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        Rows of a stored weight, as the float32 numbers that products compute with.
        """

    def loss(
        self,
        ids: typing.Any,
        targets: typing.Any,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        documents: typing.Any = None,
        images: typing.Any = None,
    ) -> tuple:
        """
        (sum of losses, number of targets that count).
        """

    def losses(
        self,
        ids: typing.Any,
        targets: typing.Any,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        documents: typing.Any = None,
        images: typing.Any = None,
    ) -> numpy.typing.NDArray[numpy.float64]:
        """
        The loss of each position (B, T), in double; 0 where the target does not count.
        """

    def names(self) -> list:
        """
        All weights, also those that are stored small, in the order of execution.
        """

    def next_logits(self, ids: typing.Any) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        Logits (B, V) after the last of further ids (B, T).
        """

    def parameters(self, trainable: typing.Any = None, writable: bool = True) -> dict:
        """
        Views of the weights by name, in order of execution; of those alone that are (True) or are not (False) trainable. writable: False gives views that are read-only for good.
        """

    def raised(self) -> list:
        """
        The operations of the last accumulate() that raised floating-point flags, in the order of a pass, as dicts: phase, layer, op, tensor (the first that the operation gave), flags, finite (all of that tensor, and attention's scores).
        """

    def remove_adapter(self) -> None:
        """
        Without it, and with every parameter trainable or frozen as it was before.
        """

    def reorder(self, rows: typing.Any) -> None:
        """
        Row b of the cache goes on from what row rows[b] has seen, as in beam search.
        """

    def rewind(self, used: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        The cache forgets all but its first `used` positions.
        """

    def set_stored(self, name: str, state: tuple) -> None:
        """
        Puts back what get_stored gave.
        """

    def set_trainable(self, name: str, trainable: bool) -> None:
        """
        False freezes a parameter: it has no gradient and keeps its bits. Gradients that were accumulated are given up when this changes.
        """

    def square_sums(
        self, first: typing.SupportsInt | typing.SupportsIndex, last: typing.SupportsInt | typing.SupportsIndex
    ) -> numpy.typing.NDArray[numpy.float64]:
        """
        The sums of squares that grad_norm() adds, in their order: of the blocks of 8192 numbers of gradient_buffer() from `first` up to `last`, which is not one of them.
        """

    def start_generation(
        self,
        batch: typing.SupportsInt | typing.SupportsIndex,
        length: typing.SupportsInt | typing.SupportsIndex,
        padding: typing.Any = None,
        images: typing.Any = None,
    ) -> int:
        """
        Empties the key/value cache and makes room for `length` positions; the first padding[b] of row b will be seen by none. images: of a captioner; each is for batch / len(images) neighbouring rows. Returns the number of this generation.
        """

    def store(self, name: str, first: typing.SupportsInt | typing.SupportsIndex, rows: typing.Any) -> int:
        """
        Stores rows (n, in) float32 from row `first` on. Returns the flat place of a number that cannot be stored, or -1.
        """

    def stored(self) -> list:
        """
        Of each weight that is stored small a dict: name, shape, storage, bytes, largest_error, relative_error.
        """

    def trace(
        self,
        ids: typing.Any,
        targets: typing.Any,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        frames: typing.SupportsInt | typing.SupportsIndex = 65536,
        tap: typing.Any = None,
        documents: typing.Any = None,
        teaching: typing.Any = None,
        between: typing.Any = None,
        images: typing.Any = None,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> typing.Any:
        """
        Repeats the micro-batch on scratch gradients and names the first tensor that is not finite, with what made that element; None if all are. ledger() then has the last `frames` tensors up to there. tap(place, shape, first, elements) is called with each of them as it comes by, or with the next piece of one.
        """

    def weight_views(self) -> tuple[int, int]:
        """
        (a number that grows whenever writable views of the weights are given out, how many are left).
        """

    def workspace_bytes(
        self,
        batch: typing.SupportsInt | typing.SupportsIndex,
        time: typing.SupportsInt | typing.SupportsIndex,
        training: bool,
        *,
        scored: bool = True,
        compared: bool = False,
    ) -> float:
        """
        Bytes that a pass over ids (B, T) takes beside weights and gradients: planned, not taken. scored: its loss is wanted; compared: with a teacher's logits.
        """

    @property
    def precision(self) -> str:
        """
        Of the products: float32, bf16x3 or bf16.
        """

    @precision.setter
    def precision(self, arg1: str) -> None: ...
    @property
    def products(self) -> str:
        """
        What they are computed with here: fma, tiles NAME or emulated NAME; float64.
        """

class TransformerF64:
    """
    A decoder-only transformer of one dtype; loopos.Model is its public face.
    """

    def __init__(self, config: dict, seed: typing.SupportsInt | typing.SupportsIndex | None) -> None:
        """
        seed: of the initial weights; None leaves them as the memory is, to be written before anything else.
        """

    def _add_plant(self, fault: dict) -> int:
        """
        Puts a fault (a dict of phase, op, tensor, index, value, flag, step, micro) into accumulate and trace; returns its number.
        """

    def _remove_plant(self, number: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Takes it out; returns how often it has fired.
        """

    def accumulate(
        self,
        ids: typing.Any,
        targets: typing.Any,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        add: bool = False,
        documents: typing.Any = None,
        teaching: typing.Any = None,
        between: typing.Any = None,
        images: typing.Any = None,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
        final_from: typing.Any = None,
    ) -> tuple:
        """
        Forward and backward; gradients = scale * d(sum of losses), or += with `add`. Returns (sum, count, healthy); healthy False: ask raised() and trace(). teaching, here and in trace: None, or a dict: loss (kl, mse, normalized_mse or cosine), hidden (B, T, C): what hidden() of the teacher gave, or with layers "all" (L, B, T, C), what hidden_states() did, teacher: it, or None for this model, temperature, weight, cross_entropy: the loss of a position is cross_entropy times its own plus weight times the teacher's. between: None, or (of, fn): fn(array) gives (loss, gradient), once for the whole batch, of its hidden states (B, T, C), its logits (B, T, V) or its losses (B, T, float64); scale is the function's affair. first_row: of a batch that is a shard of a larger one, where it begins in it. final_from: None, or a function that backward calls on its way, where it takes the batch as a whole: in gradient_buffer() the numbers from this place to the end will not change any more in this call.
        """

    def adapter_enabled(self, on: bool) -> None:
        """
        False: the model computes as without its adapter, which stays.
        """

    def add_adapter(self, parts: list) -> None:
        """
        Adds low-rank parts to projections and freezes the model's own parameters. parts: dicts of projection (blocks.0.attn.qkv_proj), name (of its parameters, before .lora_A and .lora_B), first and rows (of the projection's output), rank, scale, dropout (of its input in training steps), and dora (False unless given: with True there is .lora_magnitude, too). A and B begin as 0, magnitudes as the lengths of the weight's rows.
        """

    def add_modulation(
        self,
        rank: typing.SupportsInt | typing.SupportsIndex,
        gate: str,
        additive_scale: typing.SupportsFloat | typing.SupportsIndex,
        safe_mode: bool,
    ) -> None:
        """
        Adds to every block what its attention does to the input of its feed-forward (layers/modulation.h), and freezes the model's own parameters. gate: as of ops.modulate; safe_mode: none. Every matrix begins as 0.
        """

    def extend_generation(self, length: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        More room, with what the cache holds.
        """

    def forward(
        self, ids: typing.Any, documents: typing.Any = None, images: typing.Any = None
    ) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        Logits (B, T, V) of ids (B, T). documents, here and below: None, or (B, T), integers that never fall along a row; a token sees its own document alone, in which positions begin at 0. images, here and below: of a captioner, (B, height, width, channels).
        """

    def generation(self) -> tuple[int, int, int]:
        """
        (number of the generation, positions that the cache holds, positions there is room for).
        """

    def get_stored(self, name: str) -> tuple:
        """
        The bytes of a stored weight and its errors, copied.
        """

    def grad_norm(self) -> float:
        """
        The Euclidean norm of all gradients together, in double.
        """

    def gradient_buffer(self) -> numpy.typing.NDArray[numpy.float64]:
        """
        A view of all of them as one array (N,), in that order; zeros stand between the tensors.
        """

    def gradients(self) -> dict:
        """
        Views of the gradients of the trainable parameters, in that order.
        """

    def held_bytes(self) -> float:
        """
        Bytes of workspace and gradients that earlier passes have left.
        """

    def hidden(
        self, ids: typing.Any, documents: typing.Any = None, images: typing.Any = None
    ) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        What the head is given: the result of the final norm (B, T, C).
        """

    def hidden_states(
        self, ids: typing.Any, documents: typing.Any = None
    ) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        What flows out of each block, of the last one what the final norm makes of it: (L, B, T, C).
        """

    def ledger(self) -> list:
        """
        The tensors of the last trace(), in the order of execution, as dicts.
        """

    def load_stored(
        self,
        name: str,
        first: typing.SupportsInt | typing.SupportsIndex,
        rows: typing.SupportsInt | typing.SupportsIndex,
    ) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        Rows of a stored weight, as the float32 numbers that products compute with.
        """

    def loss(
        self,
        ids: typing.Any,
        targets: typing.Any,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        documents: typing.Any = None,
        images: typing.Any = None,
    ) -> tuple:
        """
        (sum of losses, number of targets that count).
        """

    def losses(
        self,
        ids: typing.Any,
        targets: typing.Any,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        documents: typing.Any = None,
        images: typing.Any = None,
    ) -> numpy.typing.NDArray[numpy.float64]:
        """
        The loss of each position (B, T), in double; 0 where the target does not count.
        """

    def names(self) -> list:
        """
        All weights, also those that are stored small, in the order of execution.
        """

    def next_logits(self, ids: typing.Any) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        Logits (B, V) after the last of further ids (B, T).
        """

    def parameters(self, trainable: typing.Any = None, writable: bool = True) -> dict:
        """
        Views of the weights by name, in order of execution; of those alone that are (True) or are not (False) trainable. writable: False gives views that are read-only for good.
        """

    def raised(self) -> list:
        """
        The operations of the last accumulate() that raised floating-point flags, in the order of a pass, as dicts: phase, layer, op, tensor (the first that the operation gave), flags, finite (all of that tensor, and attention's scores).
        """

    def remove_adapter(self) -> None:
        """
        Without it, and with every parameter trainable or frozen as it was before.
        """

    def reorder(self, rows: typing.Any) -> None:
        """
        Row b of the cache goes on from what row rows[b] has seen, as in beam search.
        """

    def rewind(self, used: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        The cache forgets all but its first `used` positions.
        """

    def set_stored(self, name: str, state: tuple) -> None:
        """
        Puts back what get_stored gave.
        """

    def set_trainable(self, name: str, trainable: bool) -> None:
        """
        False freezes a parameter: it has no gradient and keeps its bits. Gradients that were accumulated are given up when this changes.
        """

    def square_sums(
        self, first: typing.SupportsInt | typing.SupportsIndex, last: typing.SupportsInt | typing.SupportsIndex
    ) -> numpy.typing.NDArray[numpy.float64]:
        """
        The sums of squares that grad_norm() adds, in their order: of the blocks of 8192 numbers of gradient_buffer() from `first` up to `last`, which is not one of them.
        """

    def start_generation(
        self,
        batch: typing.SupportsInt | typing.SupportsIndex,
        length: typing.SupportsInt | typing.SupportsIndex,
        padding: typing.Any = None,
        images: typing.Any = None,
    ) -> int:
        """
        Empties the key/value cache and makes room for `length` positions; the first padding[b] of row b will be seen by none. images: of a captioner; each is for batch / len(images) neighbouring rows. Returns the number of this generation.
        """

    def store(self, name: str, first: typing.SupportsInt | typing.SupportsIndex, rows: typing.Any) -> int:
        """
        Stores rows (n, in) float32 from row `first` on. Returns the flat place of a number that cannot be stored, or -1.
        """

    def stored(self) -> list:
        """
        Of each weight that is stored small a dict: name, shape, storage, bytes, largest_error, relative_error.
        """

    def trace(
        self,
        ids: typing.Any,
        targets: typing.Any,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        step: typing.Any = None,
        micro: typing.SupportsInt | typing.SupportsIndex = 0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        frames: typing.SupportsInt | typing.SupportsIndex = 65536,
        tap: typing.Any = None,
        documents: typing.Any = None,
        teaching: typing.Any = None,
        between: typing.Any = None,
        images: typing.Any = None,
        first_row: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> typing.Any:
        """
        Repeats the micro-batch on scratch gradients and names the first tensor that is not finite, with what made that element; None if all are. ledger() then has the last `frames` tensors up to there. tap(place, shape, first, elements) is called with each of them as it comes by, or with the next piece of one.
        """

    def weight_views(self) -> tuple[int, int]:
        """
        (a number that grows whenever writable views of the weights are given out, how many are left).
        """

    def workspace_bytes(
        self,
        batch: typing.SupportsInt | typing.SupportsIndex,
        time: typing.SupportsInt | typing.SupportsIndex,
        training: bool,
        *,
        scored: bool = True,
        compared: bool = False,
    ) -> float:
        """
        Bytes that a pass over ids (B, T) takes beside weights and gradients: planned, not taken. scored: its loss is wanted; compared: with a teacher's logits.
        """

    @property
    def precision(self) -> str:
        """
        Of the products: float32, bf16x3 or bf16.
        """

    @precision.setter
    def precision(self, arg1: str) -> None: ...
    @property
    def products(self) -> str:
        """
        What they are computed with here: fma, tiles NAME or emulated NAME; float64.
        """

class Optimizer:
    """
    Arrays updated in place, by one rule or by several; see loopos.optim for the public classes. groups: of each
    (rule, what the learning rate is multiplied by, the rule's options); group_of: the group of each parameter. moments:
    "float32", as the weights are, "bfloat16" or "8bit".
    """

    def __init__(
        self,
        groups: collections.abc.Sequence[
            tuple[
                str,
                typing.SupportsFloat | typing.SupportsIndex,
                collections.abc.Mapping[str, bool | typing.SupportsFloat | typing.SupportsIndex | str],
            ]
        ],
        names: collections.abc.Sequence[str],
        params: collections.abc.Sequence,
        weight_decay: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex],
        group_of: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
        moments: str = "float32",
    ) -> None: ...
    def moments(self) -> dict:
        """
        Copies of the moments as numbers, by '<moment>.<name>'.
        """

    def not_negative(self) -> list[str]:
        """
        The moments, by the names of state(), that are never below zero.
        """

    def state(self) -> dict:
        """
        Writable views of the moments as they are kept, by '<moment>.<name>': of "bfloat16" their bits (uint16); of
        "8bit" codes (uint8), and by '<moment>_scale.<name>' the scale of each 128 numbers. Fetch them anew before writing,
        between two steps.
        """

    def step(
        self,
        grads: collections.abc.Sequence,
        lr: typing.SupportsFloat | typing.SupportsIndex,
        scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        norm: typing.SupportsFloat | typing.SupportsIndex = ...,
        untouched: bool = False,
        agree: typing.Any = None,
    ) -> typing.Any:
        """
        One update with gradients multiplied by `scale`. norm: that of the gradients where it is known, which saves reading
        them once more; untouched: nobody has written to the weights since the last step, which saves reading them once more.
        agree: None, or a function that is asked once the update is known to be safe and before anything is written: where it
        gives False the update is not made, and an empty dict comes back.
        None; or, when a gradient is not finite (phase "backward") or a weight or moment would not be
        (phase "update"), a dict of phase, rule, tensor, index, value, result, dtype, operands, and nothing was changed.
        """

    @property
    def count(self) -> int:
        """
        The number of updates done.
        """

    @count.setter
    def count(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None: ...

def available_bytes() -> float:
    """
    Memory this process can still get: free memory, control group and address space limits.
    """

def available_isas() -> list[str]:
    """
    The instruction sets that this build and this processor both have.
    """

def build_info() -> dict:
    """
    How the extension was compiled.
    """

def choices() -> dict:
    """
    The names that a model's configuration may have, by field.
    """

def copy_samples(samples: list, out: numpy.typing.NDArray[numpy.float64]) -> None:
    """
    Copies 1-D arrays, one behind another, to float64.
    """

def from_bfloat16(x: numpy.typing.NDArray[numpy.uint16], out: numpy.typing.NDArray[numpy.float32]) -> None:
    """
    float32 of such bits.
    """

def get_num_threads() -> int:
    """
    The number of threads in use.
    """

def guard_counts() -> dict:
    """
    How often each operation's guard has decided a row since import or reset_guard_counts(): fully masked rows; for layer_norm_eps and rms_norm_eps, rows whose variance is below eps.
    """

def isa() -> str:
    """
    The instruction set in use: baseline, avx2 or avx512 (LOOPOS_ISA forces one).
    """

def moved_samples(
    samples: list,
    before: numpy.typing.NDArray[numpy.float64],
    stand_for: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex],
) -> tuple:
    """
    How far each of the arrays has moved since copy_samples: rms of the difference over rms before; None where all were 0. And the same of all together, in which a number of array i stands for stand_for[i] numbers.
    """

def optimizer_rules() -> list[str]:
    """
    The names of the update rules.
    """

def products(precision: str) -> str:
    """
    What float32 products of a precision are computed with here: fma, tiles NAME or emulated NAME.
    """

def products_info() -> dict:
    """
    chosen: tiles, emulated or fma (LOOPOS_PRODUCTS forces one); why: a sentence where tiles are not used, else empty.
    """

def raised_flags() -> dict:
    """
    Floating-point exceptions raised by computations of this Python thread, workers included, since the last call.
    """

def reset_guard_counts() -> None:
    """
    Sets every guard count to zero.
    """

def round_with_owed(
    x: numpy.typing.NDArray[numpy.float32],
    owed: numpy.typing.NDArray[numpy.float32],
    out: numpy.typing.NDArray[numpy.uint16],
) -> bool:
    """
    Writes the bits of x + owed (float32) as bfloat16, rounded to the nearest, ties to even, and leaves in `owed` what that took away. Returns whether all of it is finite.
    """

def set_num_threads(n: typing.Any) -> None:
    """
    Sets the number of threads (1 to 1024). Results have the same bits for any number.
    """

class linalg:
    """
    Complex Hermitian algebra, forward and backward.
    """

    @staticmethod
    def blend(a: typing.Any, b: typing.Any, beta: typing.Any) -> typing.Any:
        """
        Blend of two arrays: (1 - beta) a + beta b.

        a, b: complex arrays of one shape, any; beta: a finite number, for all. Returns that shape.
        """

    @staticmethod
    def blend_backward(dy: typing.Any, a: typing.Any, b: typing.Any, beta: typing.Any) -> tuple:
        """
        Gradients of blend: (da = (1 - beta) dy, db = beta dy, dbeta), dbeta a number, summed over everything.
        """

    @staticmethod
    def cholesky(r: typing.Any) -> typing.Any:
        """
        Cholesky factor: r = L L^H, L lower triangular with a real positive diagonal.

        r: (..., N, N), Hermitian positive definite. Returns L (..., N, N), zeros above the diagonal. loopos.errors.NotPositiveDefiniteError
        names batch, pivot and value.
        """

    @staticmethod
    def cholesky_backward(dl: typing.Any, r: typing.Any) -> typing.Any:
        """
        Gradient of cholesky, Hermitian.

        dl: (..., N, N), of which the lower triangle is read, and of its diagonal the real part. Returns dr (..., N, N).
        """

    @staticmethod
    def eigh(r: typing.Any) -> tuple:
        """
        Eigenvalues, ascending, and orthonormal eigenvectors: r = v diag(w) v^H.

        r: (..., N, N), Hermitian. Returns (w (..., N), real; v (..., N, N), eigenvectors as columns).
        """

    @staticmethod
    def eigh_backward(dw: typing.Any, dv: typing.Any, w: typing.Any, v: typing.Any) -> typing.Any:
        """
        Gradient of eigh.

        dw: (..., N), real; dv: (..., N, N); None for one of them is 0; w, v: as eigh gave them. Returns dr (..., N, N), Hermitian.
        ValueError where the loss has no gradient: it depends on the phase of an eigenvector, or on which vectors of the span of equal
        eigenvalues were taken. Where eigenvalues are equal, take spectral_function for a function of the eigenvalues and projector for
        the span of the largest: these have a gradient there. This function sees no more than dw and dv. Where equal eigenvalues have
        dw = 0, it supposes that the loss depends on the span of their vectors alone.
        """

    @staticmethod
    def frobenius_norm(x: typing.Any) -> typing.Any:
        """
        Frobenius norm: sqrt(sum |x|^2), summed in double.

        x: (..., M, N), not necessarily square. Returns real numbers of shape (...). It is inf only where the norm itself is beyond the range of the dtype.
        """

    @staticmethod
    def frobenius_norm_backward(dy: typing.Any, x: typing.Any) -> typing.Any:
        """
        Gradient of frobenius_norm: dy x / norm, 0 where x is 0.

        dy: (...), real; for a single matrix a number too. Returns dx of x's shape. ValueError where x is not finite.
        """

    @staticmethod
    def hermitize(r: typing.Any) -> typing.Any:
        """
        Hermitian part: (r + r^H) / 2.

        r: (..., N, N), complex64 or complex128. Returns the same shape.
        """

    @staticmethod
    def hermitize_backward(dy: typing.Any, r: typing.Any) -> typing.Any:
        """
        Gradient of hermitize: the Hermitian part of dy.
        """

    @staticmethod
    def inverse(r: typing.Any) -> typing.Any:
        """
        Inverse, by the Cholesky factor; a system of equations is better solved (solve).

        r: (..., N, N), Hermitian positive definite. Returns y (..., N, N), Hermitian. loopos.errors.NotPositiveDefiniteError names batch, pivot
        and value.
        """

    @staticmethod
    def inverse_backward(dy: typing.Any, r: typing.Any, y: typing.Any = None) -> typing.Any:
        """
        Gradient of inverse: -y D y, D the Hermitian part of dy.

        y: what inverse gave for r, where that is at hand, for it takes half of the time (r is not read then). Returns dr (..., N, N),
        Hermitian.
        """

    @staticmethod
    def load_diagonal(r: typing.Any, eps: typing.Any) -> typing.Any:
        """
        Diagonal loading: r + eps I.

        r: (..., N, N); eps: a finite number, for all. Returns the same shape.
        """

    @staticmethod
    def load_diagonal_backward(dy: typing.Any, r: typing.Any, eps: typing.Any) -> tuple:
        """
        Gradients of load_diagonal: (dr = dy, deps), deps a number, summed over the batch.
        """

    @staticmethod
    def logdet(r: typing.Any) -> typing.Any:
        """
        Logarithm of the determinant, by the Cholesky factor, summed in double.

        r: (..., N, N), Hermitian positive definite. Returns real numbers of shape (...). loopos.errors.NotPositiveDefiniteError names batch,
        pivot and value.
        """

    @staticmethod
    def logdet_backward(dy: typing.Any, r: typing.Any) -> typing.Any:
        """
        Gradient of logdet: dy times the inverse of r.

        dy: (...), real; for a single matrix a number too. Returns dr (..., N, N), Hermitian.
        """

    @staticmethod
    def projector(r: typing.Any, k: typing.Any, eigen: typing.Any = None) -> typing.Any:
        """
        Projector onto the span of the eigenvectors of the k largest eigenvalues.

        r: (..., N, N), Hermitian; k: from 0 to N; eigen: the (w, v) of eigh(r), where that is at hand (r is not read then). Returns p
        (..., N, N), Hermitian; the noise subspace has I - p. ValueError where eigenvalue k and the next are equal but for rounding (they
        differ by at most 4 N times the dtype's epsilon times the largest), for then the span is not defined.
        """

    @staticmethod
    def projector_backward(dp: typing.Any, r: typing.Any, k: typing.Any, eigen: typing.Any = None) -> typing.Any:
        """
        Gradient of projector, also where eigenvalues on one side of the gap are equal.

        Returns dr (..., N, N), Hermitian.
        """

    @staticmethod
    def sample_covariance(snapshots: typing.Any, center: bool = False) -> typing.Any:
        """
        Sample covariance: R = (1/L) sum of a a^H over the snapshots a, so R[i, j] = mean of a_i conj(a_j).

        snapshots: (..., L, N), complex64 or complex128, L >= 1; center: of a less their mean (still over L). Returns R (..., N, N),
        Hermitian. ValueError where a number is not finite or R is beyond the range of the dtype.
        """

    @staticmethod
    def sample_covariance_backward(dr: typing.Any, snapshots: typing.Any, center: bool = False) -> typing.Any:
        """
        Gradient of sample_covariance: da = (1/L) (dR + dR^H) a, less its mean where centred.

        dr: (..., N, N). Returns dsnapshots (..., L, N).
        """

    @staticmethod
    def solve(r: typing.Any, b: typing.Any) -> typing.Any:
        """
        Solution x of r x = b, by the Cholesky factor.

        r: (..., N, N), Hermitian positive definite; b: (..., N, K). Returns x of b's shape. loopos.errors.NotPositiveDefiniteError names batch,
        pivot and value.
        """

    @staticmethod
    def solve_backward(dx: typing.Any, r: typing.Any, b: typing.Any) -> tuple:
        """
        Gradients of solve: (dr, db), db = r^-1 dx, dr the Hermitian part of -db x^H.
        """

    @staticmethod
    def spectral_function(r: typing.Any, function: str, eigen: typing.Any = None) -> typing.Any:
        """
        Function of Hermitian matrices by their eigenvalues: v diag(f(w)) v^H.

        r: (..., N, N), Hermitian; function: "log", "sqrt", "inverse_sqrt" or "exp"; all but exp need r positive definite
        (loopos.errors.NotPositiveDefiniteError with the number and value of the eigenvalue); eigen: the (w, v) of eigh(r), where that is at
        hand, for it takes most of the time (r is not read then). Returns y (..., N, N), Hermitian.
        """

    @staticmethod
    def spectral_function_backward(
        dy: typing.Any, r: typing.Any, function: str, eigen: typing.Any = None
    ) -> typing.Any:
        """
        Gradient of spectral_function, by divided differences (Daleckii and Krein): also where eigenvalues are equal.

        Returns dr (..., N, N), Hermitian.
        """

    @staticmethod
    def trace(r: typing.Any) -> typing.Any:
        """
        The real part of the trace, summed in double.

        r: (..., N, N). Returns real numbers of shape (...).
        """

    @staticmethod
    def trace_backward(dy: typing.Any, r: typing.Any) -> typing.Any:
        """
        Gradient of trace: dy I.

        dy: (...), real; for a single matrix a number too. Returns dr (..., N, N).
        """

    @staticmethod
    def trace_normalize(
        r: typing.Any,
        target: typing.Any,
        floor: typing.SupportsFloat | typing.SupportsIndex,
        max_amplification: typing.SupportsFloat | typing.SupportsIndex,
    ) -> tuple:
        """
        (y, trace, factor, floored): what loopos.linalg.trace_normalize makes its results of.
        """

    @staticmethod
    def trace_normalize_backward(
        dy: typing.Any,
        r: typing.Any,
        target: typing.Any = None,
        floor: typing.SupportsFloat | typing.SupportsIndex = 1e-09,
        max_amplification: typing.SupportsFloat | typing.SupportsIndex = 10000000000.0,
    ) -> typing.Any:
        """
        Gradient of trace_normalize: with t the trace, dr = (target / t) (dy - (Re sum conj(dy) r / t) I); where the floor
        decided, dr = (target / floor) dy.

        dy, r: (..., N, N); the rest as trace_normalize had it. Returns dr (..., N, N).
        """

class losses:
    """
    Losses of a student against its teacher.
    """

    @staticmethod
    def cosine(student: typing.Any, teacher: typing.Any) -> tuple:
        """
        Mean over rows of 1 - cosine of the angle between student and teacher. Returns (loss, dstudent).

        student, teacher: (..., C). A row of which either is zero has no direction: it counts for nothing (the mean is over the others, its
        gradient is zero), and it is counted (loopos.guard_counts()["cosine"]).
        """

    @staticmethod
    def kl(
        student: typing.Any, teacher: typing.Any, *, temperature: typing.SupportsFloat | typing.SupportsIndex = 1.0
    ) -> tuple:
        """
        Kullback-Leibler divergence KL(teacher || student) of distributions, by their logits. Returns (loss, dstudent).

        student, teacher: logits (..., V); p and q are their softmax after division by temperature. loss is the mean over rows of
        sum(p (log p - log q)), times temperature**2, which keeps the size of the gradient (Hinton et al. 2015). A logit of -inf on both sides
        adds nothing; on the student's alone the loss is inf. A row that is all -inf has no distribution: the loss is NaN, and it is counted
        (loopos.guard_counts()["kl"]).
        """

    @staticmethod
    def mse(student: typing.Any, teacher: typing.Any) -> tuple:
        """
        Mean of (student - teacher)**2 over all elements. Returns (loss, dstudent).

        student, teacher: (..., C), one shape and dtype, float32 or float64. loss is a float, computed in double; dstudent = dloss / dstudent of
        the student's shape. No rows: loss 0.0. The same holds for the other losses here.
        """

    @staticmethod
    def normalized_mse(student: typing.Any, teacher: typing.Any) -> tuple:
        """
        Mean over rows of |student - teacher|**2 / |teacher|**2: the mean squared error without its scale. Returns (loss, dstudent).

        student, teacher: (..., C). Scaling both by one number leaves the loss as it is. A row whose teacher is zero has no scale: it counts for
        nothing (the mean is over the others, its gradient is zero), and it is counted (loopos.guard_counts()["normalized_mse"]).
        """

class machine:
    """
    What the benchmarks need: the limits of this machine, measured, and a part of an operation.
    """

    @staticmethod
    def memory_rate(numbers: typing.Any, seconds: typing.Any) -> float:
        """
        Bytes per second of y = a + b over arrays of so many float32 numbers, on all threads in use: 12 bytes counted for each number. MemoryError when three such arrays cannot be had.
        """

    @staticmethod
    def multiply_add_rate(seconds: typing.Any) -> float:
        """
        Float32 additions and multiplications per second of multiply-adds in registers, on all threads in use, measured over about so many seconds (above 0, at most 60).
        """

    @staticmethod
    def weight_gradient(dy: typing.Any, x: typing.Any, *, precision: str = "float32") -> typing.Any:
        """
        dweight = dy^T x of a linear layer, without its dx. dy: (N, O); x: (N, I), float32. precision: as of ops.linear. Returns (O, I).
        """

class ops:
    """
    Operations, forward and backward.
    """

    class StoredWeight:
        """
        A frozen weight (O, I) in a small storage type; ops.store makes one.
        """

        def numpy(self) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
            """
            The numbers that products compute with, (O, I) float32.
            """

        @property
        def nbytes(self) -> int: ...
        @property
        def shape(self) -> tuple[int, int]: ...
        @property
        def storage(self) -> str: ...

    @staticmethod
    def _traced_attention(
        dy: typing.Any,
        q: typing.Any,
        k: typing.Any,
        v: typing.Any,
        *,
        causal: bool = False,
        mask: typing.Any = None,
        scale: typing.Any = None,
        window: typing.Any = None,
        prefix: typing.Any = 0,
        start: typing.Any = 0,
        begins: typing.Any = None,
        dropout: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
        plant: typing.Any = None,
    ) -> dict: ...
    @staticmethod
    def activation(x: typing.Any, f: str) -> typing.Any:
        """
        y = f(x), element by element, f by its name.

        x: any shape, float32 or float64. f: "relu", "gelu_tanh" ...; an unknown name is a ValueError that lists them; formulas:
        cpp/kernels/isa/activations.h. Returns y of x's shape.
        """

    @staticmethod
    def activation_backward(dy: typing.Any, x: typing.Any, f: str) -> typing.Any:
        """
        Gradient of activation: dx = dy f'(x).

        dy, x: of one shape and dtype. Returns dx of that shape.
        """

    @staticmethod
    def add(a: typing.Any, b: typing.Any) -> typing.Any:
        """
        a + b, element by element; nothing is broadcast.

        a, b: of one shape and dtype. Returns y of that shape.
        """

    @staticmethod
    def add_backward(dy: typing.Any) -> tuple:
        """
        Gradients of add: (da, db), both equal to dy.

        dy: any shape, float32 or float64.
        """

    @staticmethod
    def attention(
        q: typing.Any,
        k: typing.Any,
        v: typing.Any,
        *,
        causal: bool = False,
        mask: typing.Any = None,
        scale: typing.Any = None,
        window: typing.Any = None,
        prefix: typing.Any = 0,
        start: typing.Any = 0,
        begins: typing.Any = None,
        precision: str = "float32",
    ) -> tuple:
        """
        Scaled dot-product attention: y = softmax(scale q kᵀ) v.

        q: (B, H, T, D), k: (B, Hkv, S, D), v: (B, Hkv, S, Dv), one dtype; H a multiple of Hkv (grouped heads: head h reads h // (H / Hkv)).
        Keys and values may come from the queries' own sequence, from a cache or from another source (cross-attention): S need not be T.
        causal: query t, at position p = start + t, sees keys 0..p (aligned top-left also when T != S); False: all of them.
        window: of those, the last `window` alone, max(0, p - window + 1)..p, as sliding_window of transformers' Mistral and Gemma; causal only.
        prefix: keys 0..prefix - 1 are seen from every position, inside the window or not (prefix language models); causal only.
        start: how many keys come before the first query's own, such as those of a key/value cache.
        begins: None, or int (B, T) that never falls along a row: query t of row b sees no key before begins[b, t], as where several documents
        share a row and see themselves alone; causal only, without a prefix. Time is then O(sum of the documents' squared lengths).
        mask: bool, broadcastable to (B, H, T, S), True = may attend: hides more, shows nothing that causal, window, prefix and begins hide.
        scale: defaults to 1 / sqrt(D). Returns y (B, H, T, Dv) and lse (B, H, T) = log sum exp of the visible scores. A row that sees no key
        gives y = 0 and lse = -inf and is counted (guard_counts()["attention"]). Scores are held for one tile of queries at a time, over the
        keys that the tile sees: time is O(T window), and there is never a (T, S) matrix. precision: of the two products, as of matmul.

        ValueError: a window below 1, a prefix beyond S, begins that fall, any of them without causal, a negative start, shapes that do not fit.
        """

    @staticmethod
    def attention_backward(
        dy: typing.Any,
        q: typing.Any,
        k: typing.Any,
        v: typing.Any,
        y: typing.Any,
        lse: typing.Any,
        *,
        causal: bool = False,
        mask: typing.Any = None,
        scale: typing.Any = None,
        window: typing.Any = None,
        prefix: typing.Any = 0,
        start: typing.Any = 0,
        begins: typing.Any = None,
        precision: str = "float32",
    ) -> tuple:
        """
        Gradients (dq, dk, dv) of attention; y and lse are what it returned for the same arguments.
        """

    @staticmethod
    def clip_grad_norm_(arrays: typing.Any, max_norm: typing.SupportsFloat | typing.SupportsIndex) -> float:
        """
        Scales all arrays in place by max_norm / norm when their global norm exceeds max_norm; else leaves every bit.

        arrays: a list or dict of writeable float32 or float64 arrays, no two of which share memory (ValueError); max_norm: above 0 (inf never clips). Returns the norm before clipping. An
        entry that is not finite raises loopos.NonFiniteError (birth.tensor: key or position) and no array is changed.
        """

    @staticmethod
    def cross_entropy(
        logits: typing.Any,
        targets: typing.Any,
        *,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        z_loss: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        reduction: str = "mean",
    ) -> tuple:
        """
        Cross-entropy of logits against class numbers: logsumexp(x) - x[target] per row. Returns (loss, count).

        logits: (N, V), float32 or float64. targets: (N,), int32 or int64, each in 0..V-1 or ignore_index (an ignored row counts for nothing,
        whatever it holds); all are checked first, IndexError otherwise. label_smoothing in [0, 1] is uniform over V as in torch; z_loss >= 0
        adds z_loss * logsumexp(x)**2 to each counted row. reduction "mean" (over count; 0.0 when count is 0) and "sum" give a float, computed in
        double; "none" gives an array (N,), 0 in ignored rows. A counted row that is all -inf has no distribution: its loss is NaN, and it is
        counted (loopos.guard_counts()["cross_entropy"]).
        """

    @staticmethod
    def cross_entropy_backward(
        dloss: typing.Any,
        logits: typing.Any,
        targets: typing.Any,
        *,
        ignore_index: typing.SupportsInt | typing.SupportsIndex = -100,
        label_smoothing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        z_loss: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        reduction: str = "mean",
    ) -> typing.Any:
        """
        Gradient of cross_entropy with respect to logits, dlogits (N, V); the same options as cross_entropy.

        dloss: a number for reduction "mean" and "sum", an array (N,) of the dtype of logits for "none". Ignored rows have gradient zero.
        """

    @staticmethod
    def dora(
        x: typing.Any,
        weight: typing.Any,
        a: typing.Any,
        b: typing.Any,
        magnitude: typing.Any,
        bias: typing.Any = None,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    ) -> typing.Any:
        """
        A linear layer adapted by DoRA (Liu et al. 2024): y = m / c * (x (weight + scale b a)^T) + bias, c the lengths of the rows of weight + scale b a.

        x: (..., I); weight: (O, I); a: (R, I); b: (O, R); magnitude m: (O,); bias: (O,) or None; scale: a finite number. Returns y (..., O). A row of
        length 0 gives inf or NaN.
        """

    @staticmethod
    def dora_backward(
        dy: typing.Any,
        x: typing.Any,
        weight: typing.Any,
        a: typing.Any,
        b: typing.Any,
        magnitude: typing.Any,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    ) -> tuple:
        """
        (dx, da, db, dmagnitude) of dora for dy (..., O), with c taken as a constant, as in the paper; weight is frozen.
        """

    @staticmethod
    def dropout(
        x: typing.Any, p: typing.SupportsFloat | typing.SupportsIndex, *, seed: typing.Any, offset: typing.Any = 0
    ) -> typing.Any:
        """
        Dropout: each element is zero with probability p, else multiplied by 1/(1-p).

        x: any shape, float32 or float64; p in [0, 1); seed and offset in 0..2**64-1. The mask is a function of (seed, offset + flat index) alone
        (Philox4x32-10), so a tensor cut in pieces with matching offsets gets the same mask. A dropped NaN or inf gives NaN.
        """

    @staticmethod
    def dropout_backward(
        dy: typing.Any, p: typing.SupportsFloat | typing.SupportsIndex, *, seed: typing.Any, offset: typing.Any = 0
    ) -> typing.Any:
        """
        Gradient of dropout: dy times the same mask and scale. Returns dx of dy's shape.
        """

    @staticmethod
    def embedding(ids: typing.Any, weight: typing.Any) -> typing.Any:
        """
        Rows of a table: y[i] = weight[ids[i]].

        ids: (...), int32 or int64, from 0 to V - 1 (else IndexError with position and value); weight: (V, C). Returns y (..., C).
        """

    @staticmethod
    def embedding_backward(dy: typing.Any, ids: typing.Any, num_embeddings: typing.Any) -> typing.Any:
        """
        dweight (num_embeddings, C): the rows of dy (..., C) summed by id, in one fixed order.
        """

    @staticmethod
    def gated(gate: typing.Any, up: typing.Any, f: str) -> typing.Any:
        """
        f(gate) * up, element by element (arXiv:2002.05202), f as in activation.

        gate, up: of one shape and dtype. Returns y of that shape.
        """

    @staticmethod
    def gated_backward(dy: typing.Any, gate: typing.Any, up: typing.Any, f: str) -> tuple:
        """
        Gradients of gated: (dgate, dup).

        dy, gate, up: of one shape and dtype.
        """

    @staticmethod
    def gelu(x: typing.Any, approximate: str = "none") -> typing.Any:
        """
        Gaussian error linear unit (arXiv:1606.08415).

        approximate "none": x Phi(x), Phi the normal distribution function; "tanh": x (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3))) / 2.
        x: any shape, float32 or float64. Returns y of x's shape.
        """

    @staticmethod
    def gelu_backward(dy: typing.Any, x: typing.Any, approximate: str = "none") -> typing.Any:
        """
        Gradient of gelu with the same `approximate`.

        dy, x: of one shape and dtype. Returns dx of that shape.
        """

    @staticmethod
    def global_norm(arrays: typing.Any) -> float:
        """
        Euclidean norm over all numbers of a list or dict of arrays, in double.

        Finite input gives the right finite norm (3e38 in float32, 1e300 in float64 too); an empty list gives 0.0. All arrays share one dtype.
        """

    @staticmethod
    def layer_norm(
        x: typing.Any,
        weight: typing.Any = None,
        bias: typing.Any = None,
        eps: typing.SupportsFloat | typing.SupportsIndex = 1e-05,
    ) -> tuple:
        """
        Layer norm over the last axis (Ba, Kiros, Hinton 2016), biased variance, eps inside the root.

        x: (..., n); weight, bias: (n,) or None. Returns (y, mean, rstd), y of x's shape, mean and rstd of x.shape[:-1].
        """

    @staticmethod
    def layer_norm_backward(
        dy: typing.Any, x: typing.Any, weight: typing.Any, mean: typing.Any, rstd: typing.Any
    ) -> tuple:
        """
        Gradients of layer_norm: (dx, dweight, dbias).

        With a weight, dweight and dbias (n,) are both returned, for this call does not know whether there was a bias; with weight None both are None. The
        mean is recomputed from x, as the one handed in is rounded.
        """

    @staticmethod
    def linear(x: typing.Any, weight: typing.Any, bias: typing.Any = None, *, precision: str = "float32") -> typing.Any:
        """
        y = x weight^T + bias.

        x: (..., I); weight: (O, I); bias: (O,) or None. Returns y (..., O).
        """

    @staticmethod
    def linear_backward(
        dy: typing.Any, x: typing.Any, weight: typing.Any, has_bias: bool = True, *, precision: str = "float32"
    ) -> tuple:
        """
        (dx, dweight, dbias) of linear for dy (..., O); dbias is None with has_bias=False.
        """

    @staticmethod
    def log_softmax(x: typing.Any) -> typing.Any:
        """
        Logarithm of softmax over the last axis: x - logsumexp(x).

        x: (..., n), n >= 1. Returns y of x's shape. A row that is all -inf gives -inf (the logarithm of softmax's zeros) and is counted
        (loopos.guard_counts()["log_softmax"]); a NaN or +inf makes its row NaN.
        """

    @staticmethod
    def log_softmax_backward(dy: typing.Any, y: typing.Any) -> typing.Any:
        """
        Gradient of log_softmax: dx = dy - exp(y) sum(dy).

        dy, y: (..., n), y as log_softmax returned it. Returns dx of the same shape.
        """

    @staticmethod
    def logsumexp(x: typing.Any) -> typing.Any:
        """
        Logarithm of the sum of exponentials over the last axis.

        x: (..., n), n >= 1. Returns y of shape (...). A row that is all -inf gives -inf and is counted (loopos.guard_counts()["logsumexp"]).
        """

    @staticmethod
    def logsumexp_backward(dy: typing.Any, x: typing.Any) -> typing.Any:
        """
        Gradient of logsumexp: dx = dy softmax(x).

        dy: (...), x: (..., n); for a 1-D x, dy may be a number. Returns dx of x's shape; a row that is all -inf has gradient zero and is counted.
        """

    @staticmethod
    def low_rank(
        x: typing.Any,
        a: typing.Any,
        b: typing.Any,
        y: typing.Any = None,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        first: typing.Any = 0,
    ) -> typing.Any:
        """
        The low-rank part of a projection (LoRA, Hu et al. 2021): y[..., first : first + O] + scale (x a^T) b^T.

        x: (..., I); a: (R, I); b: (O, R); y: None for zeros (..., first + O), or an array with the leading axes of x and at least as many columns.
        scale: a finite number. Returns y with the part added; columns outside of it are copied.
        """

    @staticmethod
    def low_rank_backward(
        dy: typing.Any,
        x: typing.Any,
        a: typing.Any,
        b: typing.Any,
        *,
        scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        first: typing.Any = 0,
    ) -> tuple:
        """
        (dx, da, db) of low_rank for dy, of y's shape; the gradient of y itself is dy.
        """

    @staticmethod
    def matmul(a: typing.Any, b: typing.Any, *, precision: str = "float32") -> typing.Any:
        """
        Matrix product over the last two axes.

        a: (..., M, K); b: (..., K, N) with the same leading axes, or one (K, N) for all. Returns c (..., M, N). K = 0 gives zeros.
        precision, here and in other products: of the factors of float32 products. "float32"; "bf16x3", a relative error of at most 2^-17 a
        factor and 2^-15 a product; "bf16", of at most 2^-8 a factor. Sums are float32 under each. float64 products are not affected.
        """

    @staticmethod
    def matmul_backward(dc: typing.Any, a: typing.Any, b: typing.Any, *, precision: str = "float32") -> tuple:
        """
        (da, db) = (dc b^T, a^T dc) for c = matmul(a, b); db is summed over the leading axes when b is (K, N).
        """

    @staticmethod
    def modulate(
        x: typing.Any, z: typing.Any, d: typing.Any, *, gate: str = "sigmoid", additive_scale: typing.Any = 0.1
    ) -> typing.Any:
        """
        y = gate(z) x + additive_scale d, element by element.

        x, z, d: of one shape and dtype; z None: no gate, y = x + additive_scale d. gate: "sigmoid", 1/2 + sigmoid(z); "tanh",
        1 + tanh(z) / 2; both 1 at 0 and between 1/2 and 3/2; "document", 1/2 + sigmoid(z) / 2, which is 3/4 at 0. An unknown
        name or a scale that is not finite: ValueError. Returns y of x's shape.
        """

    @staticmethod
    def modulate_backward(
        dy: typing.Any, x: typing.Any, z: typing.Any, *, gate: str = "sigmoid", additive_scale: typing.Any = 0.1
    ) -> tuple:
        """
        Gradients of modulate: (dx, dz, dd).

        dx = dy gate(z), dz = dy x gate'(z), dd = additive_scale dy. dy, x, z: of one shape and dtype; z None: dz is None.
        """

    @staticmethod
    def patches(images: typing.Any, patch_size: typing.Any, *, lead: typing.Any = 0) -> typing.Any:
        """
        Pictures cut into patches, each a row (arXiv:2010.11929): y (B, lead + P, patch_size * patch_size * channels).

        images: (B, H, W, channels), H and W multiples of patch_size (ValueError). Patches come from left to right, then down;
        so do the pixels of a row, each with its channels. The first `lead` rows are zeros.
        """

    @staticmethod
    def patches_backward(
        dy: typing.Any,
        image_shape: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
        patch_size: typing.Any,
        *,
        lead: typing.Any = 0,
    ) -> typing.Any:
        """
        Gradient of patches: dimages (B, H, W, channels).

        dy: (B, lead + P, patch_size * patch_size * channels). image_shape: (H, W, channels).
        """

    @staticmethod
    def pool(x: typing.Any, *, begin: typing.Any = 0, end: typing.Any = None) -> typing.Any:
        """
        The mean over rows [begin, end) of each sequence: y (B, C), summed in double.

        x: (B, T, C). end None: T. No rows: ValueError.
        """

    @staticmethod
    def pool_backward(dy: typing.Any, rows: typing.Any, *, begin: typing.Any = 0, end: typing.Any = None) -> typing.Any:
        """
        Gradient of pool: dx (B, rows, C), zeros outside [begin, end).

        dy: (B, C).
        """

    @staticmethod
    def position_embedding(
        x: typing.Any, weight: typing.Any, *, start: typing.Any = 0, positions: typing.Any = None
    ) -> typing.Any:
        """
        Learned positions (arXiv:1706.03762, section 3.5): y[b, t] = x[b, t] + weight[start + t].

        x: (B, T, C). weight: (positions, C) of x's dtype. start: position of the first row; start + T may not exceed positions (ValueError).
        positions: None, or int (B, T) in place of start + t, each from 0 to positions - 1 (IndexError). Returns y (B, T, C).
        """

    @staticmethod
    def position_embedding_backward(
        dy: typing.Any, num_positions: typing.Any, *, start: typing.Any = 0, positions: typing.Any = None
    ) -> tuple:
        """
        Gradients of position_embedding: (dx, dweight).

        dy: (B, T, C). dx is dy; dweight (num_positions, C) has at start + t the sum of dy[:, t], or at each of the
        positions (B, T) the sum of its rows of dy, and zeros elsewhere.
        """

    @staticmethod
    def prepend(prefix: typing.Any, x: typing.Any) -> typing.Any:
        """
        Rows before others: y (B, P + T, C).

        prefix: (B, P, C). x: (B, T, C) of one dtype.
        """

    @staticmethod
    def prepend_backward(dy: typing.Any, prefix: typing.Any) -> tuple:
        """
        Gradients of prepend: (dprefix, dx).

        dy: (B, P + T, C). prefix: P.
        """

    @staticmethod
    def relu(x: typing.Any) -> typing.Any:
        """
        y = max(x, 0), element by element.

        x: any shape, float32 or float64. Returns y of x's shape.
        """

    @staticmethod
    def relu_backward(dy: typing.Any, x: typing.Any) -> typing.Any:
        """
        Gradient of relu: dx = dy where x > 0, else 0.

        dy, x: of one shape and dtype. Returns dx of that shape.
        """

    @staticmethod
    def rms_norm(
        x: typing.Any, weight: typing.Any = None, eps: typing.SupportsFloat | typing.SupportsIndex = 1e-06
    ) -> tuple:
        """
        Root mean square norm over the last axis (Zhang, Sennrich 2019): y = x / sqrt(mean x^2 + eps) weight.

        x: (..., n); weight: (n,) or None. Returns (y, rstd), rstd of x.shape[:-1].
        """

    @staticmethod
    def rms_norm_backward(dy: typing.Any, x: typing.Any, weight: typing.Any, rstd: typing.Any) -> tuple:
        """
        Gradients of rms_norm: (dx, dweight); dweight is None when weight is None.
        """

    @staticmethod
    def rope(
        x: typing.Any,
        positions: typing.Any,
        *,
        theta: typing.SupportsFloat | typing.SupportsIndex = 10000.0,
        interleaved: bool = False,
    ) -> typing.Any:
        """
        Rotary position embedding (Su et al. 2021).

        x: (B, H, T, D), D even; positions: (T,) or (B, T), int32 or int64, any values. Pair i is turned by positions[t] theta^(-2i/D); interleaved=False pairs
        element i with i + D/2, True 2i with 2i + 1. Returns y of x's shape.
        """

    @staticmethod
    def rope_backward(
        dy: typing.Any,
        positions: typing.Any,
        *,
        theta: typing.SupportsFloat | typing.SupportsIndex = 10000.0,
        interleaved: bool = False,
    ) -> typing.Any:
        """
        dx of rope: dy turned back by the same angles.
        """

    @staticmethod
    def sigmoid(x: typing.Any) -> typing.Any:
        """
        y = 1 / (1 + exp(-x)), element by element.

        x: any shape, float32 or float64. Returns y of x's shape.
        """

    @staticmethod
    def sigmoid_backward(dy: typing.Any, x: typing.Any) -> typing.Any:
        """
        Gradient of sigmoid: dx = dy s (1 - s) with s = sigmoid(x).

        dy, x: of one shape and dtype. Returns dx of that shape.
        """

    @staticmethod
    def silu(x: typing.Any) -> typing.Any:
        """
        y = x sigmoid(x), element by element.

        x: any shape, float32 or float64. Returns y of x's shape.
        """

    @staticmethod
    def silu_backward(dy: typing.Any, x: typing.Any) -> typing.Any:
        """
        Gradient of silu: dx = dy s (1 + x (1 - s)) with s = sigmoid(x).

        dy, x: of one shape and dtype. Returns dx of that shape.
        """

    @staticmethod
    def softmax(x: typing.Any) -> typing.Any:
        """
        Softmax over the last axis.

        x: (..., n), float32 or float64, n >= 1. Returns y of x's shape. A row that is all -inf (fully masked) gives zeros and is counted
        (loopos.guard_counts()["softmax"]); a NaN or +inf makes its row NaN.
        """

    @staticmethod
    def softmax_backward(dy: typing.Any, y: typing.Any) -> typing.Any:
        """
        Gradient of softmax: dx = y (dy - sum(dy y)).

        dy, y: (..., n), y as softmax returned it. Returns dx of the same shape.
        """

    @staticmethod
    def store(weight: typing.Any, storage: str) -> StoredWeight:
        """
        A frozen copy of weight (O, I) float32 in a small storage type, of which only products are taken.

        storage: "bfloat16" (nearest, ties to even), "int8" (32 numbers of a row share a float16 scale s; q = round(w / s) from -127 to 127),
        "int4-symmetric" (the same with -7 to 7) or "nf4" (64 numbers of a row share s = max |w|; q is the nearest of the 16 levels of NF4).
        ValueError names a number that cannot be stored: NaN, infinite, or beyond the range.
        """

    @staticmethod
    def stored_linear(
        x: typing.Any, weight: StoredWeight, bias: typing.Any = None
    ) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        y = x W^T + bias as linear computes it on weight.numpy(), to the same bits. x: (..., I) float32; weight: of store. Returns y (..., O).
        """

    @staticmethod
    def stored_linear_backward(
        dy: typing.Any, weight: StoredWeight
    ) -> numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]:
        """
        dx (..., I) = dy W of stored_linear for dy (..., O). The weight is frozen: it has no gradient.
        """

    @staticmethod
    def swiglu(gate: typing.Any, up: typing.Any) -> typing.Any:
        """
        silu(gate) * up, element by element (arXiv:2002.05202).

        gate, up: of one shape and dtype. Returns y of that shape.
        """

    @staticmethod
    def swiglu_backward(dy: typing.Any, gate: typing.Any, up: typing.Any) -> tuple:
        """
        Gradients of swiglu: (dgate, dup).

        dy, gate, up: of one shape and dtype.
        """

    @staticmethod
    def tanh(x: typing.Any) -> typing.Any:
        """
        y = tanh(x), element by element.

        x: any shape, float32 or float64. Returns y of x's shape.
        """

    @staticmethod
    def tanh_backward(dy: typing.Any, x: typing.Any) -> typing.Any:
        """
        Gradient of tanh: dx = dy (1 - tanh(x)**2).

        dy, x: of one shape and dtype. Returns dx of that shape.
        """
