"""`ratite web`: a way into the page of the control plane, for a browser of this host."""

from __future__ import annotations

import html
import os
import sys
import webbrowser
from pathlib import Path

import click

from ratite.clients.cli import kit, places, remote


def door(url: str) -> Path:
    """A file, the user's alone, that leads a browser to `url`: in a browser's arguments every user of the host could read it.
    Mistake."""
    path = places.runtime_folder() / "web.html"
    go = f'<meta http-equiv="refresh" content="0; url={html.escape(url)}">'
    try:
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(f'<!doctype html><meta charset="utf-8"><title>ratite</title>{go}\n')
    except OSError as error:
        raise kit.Mistake(f"{path} can't be written: {error.strerror}") from None
    return path


@click.command("web", short_help="Print an address at which a browser of this host sees the machines.")
@click.option("--browser", "-b", is_flag=True, help="Open the address in your browser, too.")
@kit.json_option
def command(browser: bool, as_json: bool) -> int:
    """Open the page's listener on loopback and print an address that signs one browser in, once, within a minute.

    The page is served by the control plane (ratite serve); its machines are those that it has made.
    """
    from ratite.clients.control import ControlError, RpcError

    try:
        client = remote.control()
    except kit.Mistake as mistake:
        raise kit.Mistake(f"{mistake.message}; start one with: ratite serve") from None
    try:
        with client:
            link = client.web_open()
    except (ControlError, RpcError) as error:
        raise kit.Failure(str(error)) from None
    if as_json:
        kit.show_json(link)
    else:
        click.echo(link["url"])
        click.echo(kit.paint(f"It serves once, and for {link['seconds']} seconds.", sys.stderr, dim=True), err=True)
    if browser and not webbrowser.open(door(link["url"]).as_uri()):
        raise kit.Failure("there is no browser that could be opened")
    return kit.OK
