"""`ratite web`: a way into the page of the control plane, for a browser of this host."""

from __future__ import annotations

import sys
import webbrowser

import click

from ratite.clients.cli import kit, remote


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
    if browser and not webbrowser.open(link["url"]):
        raise kit.Failure("there is no browser that could be opened")
    return kit.OK
