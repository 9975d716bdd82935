"""Which modules of a model an adapter stands on, by the names that Hugging Face's folders have for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loopos.hf.linears import Linear

ALL, ATTENTION = "all-linear", "attention"
GROUPS = (ALL, ATTENTION)


def choose(where: str, linears: Sequence[Linear], targets: str | Iterable[str]) -> list[Linear]:
    """Those of ``linears`` that are meant, in their order. ValueError for a name that is none of theirs."""
    if targets == ALL:
        return list(linears)
    if targets == ATTENTION:
        return [each for each in linears if ".attn." in each.projection]
    unknown = [name for name in targets if not any(named(each.module, name) for each in linears)]
    if unknown:
        short = dict.fromkeys(each.module.rpartition(".")[2] for each in linears)
        raise ValueError(
            f"{where}: this model has no {', '.join(unknown)}; targets can be {', '.join([*GROUPS, *short])}, or the "
            f"whole name of one, such as {linears[0].module}"
        )
    return [each for each in linears if any(named(each.module, name) for name in targets)]


def spell(linears: Sequence[Linear], chosen: Sequence[Linear]) -> str | tuple[str, ...]:
    """What to give as targets in order to get ``chosen``: a group, or the shortest names that mean nothing else."""
    wanted = [each.module for each in chosen]
    for group in GROUPS:
        if [each.module for each in choose("", linears, group)] == wanted:
            return group
    return names_of(linears, chosen)


def names_of(linears: Sequence[Linear], chosen: Sequence[Linear]) -> tuple[str, ...]:
    """The same as names alone."""
    wanted, names = {each.module for each in chosen}, {}
    for each in chosen:
        parts = each.module.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        meant = ({other.module for other in linears if named(other.module, end)} for end in ends)
        names[next(end for end, modules in zip(ends, meant, strict=True) if modules <= wanted)] = None
    return tuple(names)


def named(module: str, name: str) -> bool:
    """Whether ``name`` is the end of a module's dotted name, or all of it."""
    return module == name or module.endswith("." + name)
