"""`ratite web`: a way into the page of the control plane, for a browser of this host."""

from __future__ import annotations

import sys
import webbrowser

import click

from ratite.clients.cli import kit


@click.command("web", short_help="Print an address at which a browser of this host sees the machines.")
@click.option(
    "--control", default="default", metavar="ADDR", show_default=True, help="The control plane: default, or unix:PATH."
)
@click.option("--browser", "-b", is_flag=True, help="Open the address in your browser, too.")
@kit.json_option
def command(control: str, browser: bool, as_json: bool) -> int:
    """Open the page's listener on loopback and print an address that signs one browser in, once, within a minute.

    The page is served by the control plane (`ratited --control default`); its machines are those that it has made.
    """
    from ratite.clients.control import ControlClient, ControlError, RpcError

    try:
        with ControlClient.connect(control) as client:
            link = client.web_open()
    except RpcError as error:
        raise kit.Failure(str(error)) from None
    except (ControlError, ValueError) as error:
        raise kit.Mistake(f"{error}; start one with: ratited --control {control}") from None
    if as_json:
        kit.show_json(link)
    else:
        click.echo(link["url"])
        click.echo(kit.paint(f"It serves once, and for {link['seconds']} seconds.", sys.stderr, dim=True), err=True)
    if browser and not webbrowser.open(link["url"]):
        raise kit.Failure("there is no browser that could be opened")
    return kit.OK
