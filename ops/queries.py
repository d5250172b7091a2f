"""What a PromQL expression asks for, held against the contract: do its metrics and labels exist?

A mistyped name makes an alert that never fires and a panel that stays empty; nothing else would
notice. Rules, panels and documentation are checked with this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import promql_parser as promql

from . import contract

TARGET = ("job", "instance")
"""Labels that a scrape adds."""

_INTERVALS = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}


def plain(expression: str) -> str:
    """The expression with Grafana's intervals filled in; variables in strings stay."""
    for name, value in _INTERVALS.items():
        expression = expression.replace(name, value).replace("${" + name[1:] + "}", value)
    return expression


def labels_of(sample: str) -> tuple[str, ...] | None:
    """Labels of a series by its name in queries; ``None`` if nobody exports it."""
    for metric in contract.METRICS.values():
        if sample in metric.samples:
            bucket = ("le",) if sample.endswith("_bucket") else ()
            return (*TARGET, *metric.labels, *bucket)
    if sample in contract.RECORDED:
        return contract.RECORDED[sample]
    if sample in contract.FOREIGN:
        return (*TARGET, *contract.FOREIGN[sample])
    return None


def used(expression: str) -> set[str]:
    """Names of the series that the expression reads.

    Raises:
        ValueError: it does not parse.
    """
    return {selector.name or "" for selector in _selectors(promql.parse(plain(expression)))}


def family(sample: str) -> str:
    """Name of the contract's metric behind a series, without prefix; empty if there is none."""
    for metric in contract.METRICS.values():
        if sample in metric.samples:
            return metric.name
    return ""


def problems(expression: str) -> list[str]:
    """What is wrong with an expression, in words; empty if nothing is."""
    try:
        parsed = promql.parse(plain(expression))
    except ValueError as error:
        return [f"does not parse: {error}"]
    found: list[str] = []
    for selector in _selectors(parsed):
        found += _wrong_selector(selector)
    found += _wrong_groupings(parsed)
    return found


def _wrong_selector(selector: Any) -> list[str]:
    name = selector.name
    known = None if name is None else labels_of(name)
    if known is None:
        return [f"nobody exports {name or selector}"]
    wrong: list[str] = []
    values = next((m.labels for m in contract.METRICS.values() if name in m.samples), {})
    for matcher in selector.matchers.matchers:
        if matcher.name not in known:
            wrong.append(f"{name} has no label {matcher.name}")
        elif values.get(matcher.name) and not _matches(matcher, values[matcher.name]):
            wrong.append(f"{name}: {matcher.name} is never {matcher.value!r}")
    return wrong


def _matches(matcher: Any, known: Sequence[str]) -> bool:
    """Whether the value names at least one of the known ones (variables may name any)."""
    if "$" in matcher.value or not matcher.value:
        return True
    if matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual):
        return matcher.value in known
    parts = matcher.value.split("|") if re.fullmatch(r"[\w|-]+", matcher.value) else [matcher.value]
    return all(any(re.fullmatch(part, value) for value in known) for part in parts)


def _wrong_groupings(parsed: Any) -> list[str]:
    """Labels in ``by (...)`` that no series under the aggregation has."""
    wrong: list[str] = []
    for node in _nodes(parsed):
        if not isinstance(node, promql.AggregateExpr) or node.modifier is None:
            continue
        known: set[str] = set()
        for selector in _selectors(node.expr):
            known |= {*(labels_of(selector.name or "") or ())}
        wrong += [
            f"no series under by ({label}) has that label"
            for label in node.modifier.labels
            if known and label not in known
        ]
    return wrong


def _selectors(parsed: Any) -> Iterator[Any]:
    for node in _nodes(parsed):
        if isinstance(node, promql.VectorSelector):
            yield node


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        child = getattr(node, name, None)
        if child is not None:
            yield from _nodes(child)
    for child in getattr(node, "args", None) or ():
        yield from _nodes(child)
