"""`ratite completion`: the script that makes a shell complete verbs, options, machines and profiles."""

from __future__ import annotations

import click

from ratite.clients.cli import kit

SHELLS = ("bash", "zsh", "fish")
INSTALL = (
    ("bash", 'put it into ~/.local/share/bash-completion/completions/ratite, or: eval "$(ratite completion bash)"'),
    ("zsh", "put it into a folder of $fpath as _ratite"),
    ("fish", "put it into ~/.config/fish/completions/ratite.fish"),
)


@click.command("completion", short_help="Print a completion script for a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@kit.json_option
def command(shell: str, as_json: bool) -> int:
    """Print the completion script for SHELL; with --json {"shell", "script"}.

    \b
    bash  eval "$(ratite completion bash)", or as ~/.local/share/bash-completion/completions/ratite
    zsh   as _ratite in a folder of $fpath
    fish  as ~/.config/fish/completions/ratite.fish
    """
    from click.shell_completion import BashComplete, get_completion_class

    from ratite.clients.cli.main import command as top

    found = get_completion_class(shell)
    assert found is not None
    if issubclass(found, BashComplete):
        found._check_version = staticmethod(lambda: None)  # type: ignore[method-assign]
    script = found(top, {}, "ratite", "_RATITE_COMPLETE").source()
    if as_json:
        kit.show_json({"shell": shell, "script": script})
    else:
        click.echo(script)
    return 0
