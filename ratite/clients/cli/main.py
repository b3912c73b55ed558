"""`ratite VERB …`: the table of verbs, and what becomes of an error.

A verb's module is imported when the verb is used (all of them for --help). A user's mistake is one line on stderr and status
2; a traceback is a bug of ratite's, and is asked to be reported, with RATITE_TRACEBACK=1 to see it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import click

from ratite.clients.cli import kit

# Verb: the module below this package, and its command there if that isn't called `command`. A new verb is a line here.
VERBS: Mapping[str, str] = MappingProxyType(
    {
        "bench": "bench",
        "cache": "cache",
        "compile": "machinefile:compile_command",
        "completion": "completion",
        "console": "console",
        "doctor": "doctor",
        "dump": "machinefile:dump_command",
        "from-dtb": "machinefile:from_dtb_command",
        "install-shims": "shims",
        "metrics": "metrics",
        "profiles": "machinefile:profiles_command",
        "ps": "ps",
        "qmp": "qmp",
        "run": "run",
        "serve": "serve",
        "schema": "machinefile:schema_command",
        "schema-diff": "schema_diff",
        "stop": "stop",
        "sweep": "sweep",
        "top": "top",
        "translate": "translate",
        "web": "web",
    }
)

EPILOG = "Exit status: 0 done, 1 failed, 2 a mistake in the command line or in a file; `ratite run` has more, see its --help."


class Verbs(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        name, _, attribute = VERBS[cmd_name].partition(":")
        module = importlib.import_module(f"ratite.clients.cli.{name}")
        command: click.Command = getattr(module, attribute or "command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise kit.Mistake(f"there is no verb {args[0]!r}{kit.nearest(args[0], VERBS)} (ratite --help lists them)")
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from ratite import __version__

        click.echo(f"ratite {__version__}")
        ctx.exit()


@click.group(
    cls=Verbs,
    epilog=EPILOG,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version and exit."
)
def command() -> None:
    """Run machines with CPUs of any mix of architectures, look into them, and steer them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script `ratite`; its exit status."""
    from ratite.clients.qmp import CommandError, QmpClientError

    kit.whole_streams()
    try:
        status: Any = command.main(None if arguments is None else list(arguments), prog_name="ratite", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return kit.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return kit.USAGE
    except kit.Failure as failure:
        failure.show()
        return failure.status
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        kit.complain(error.format_message())
        if where is not None:
            click.echo(f"Try '{where.command_path} --help'.", err=True)
        return error.exit_code
    except (CommandError, QmpClientError) as error:
        kit.complain(str(error))
        return kit.FAILED
    except TimeoutError:
        kit.complain("no answer came in time")
        return kit.FAILED
    except OSError as error:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # at the end nothing more fails to be written
        if not isinstance(error, BrokenPipeError):
            kit.complain(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
        return kit.FAILED
    except Exception as error:
        if os.environ.get("RATITE_TRACEBACK"):
            raise
        kit.complain(f"a bug of ratite's, please report it: {type(error).__name__}: {error} (RATITE_TRACEBACK=1 shows where)")
        return kit.FAILED
    return status if isinstance(status, int) else kit.OK
