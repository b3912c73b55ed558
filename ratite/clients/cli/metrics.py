"""`ratite metrics`: what the control plane tells Prometheus, on stdout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click

from ratite.clients.cli import kit, remote

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)\Z")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(text: str) -> Iterator[dict[str, Any]]:
    """The samples of a text in Prometheus' format 0.0.4: {name, labels, value}."""
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match is not None:
            labels = {name: re.sub(r"\\(.)", _unescaped, value) for name, value in _LABEL.findall(match[2] or "")}
            yield {"name": match[1], "labels": labels, "value": float(match[3])}


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


@click.command("metrics", short_help="Print the control plane's metrics.")
@kit.json_option
def command(as_json: bool) -> int:
    """Print what the control plane (ratite serve) tells Prometheus; with --json an array of {name, labels, value}."""
    text = remote.fetch("/metrics")
    if as_json:
        kit.show_json(list(samples(text)))
    else:
        click.echo(text, nl=False)
    return kit.OK
