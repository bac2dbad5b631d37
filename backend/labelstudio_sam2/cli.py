"""The command line: `labelstudio-sam2 serve`, `settings`, `demo`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from labelstudio_sam2.demo.processes import DemoError
from labelstudio_sam2.demo.run import run_demo, stop_demo
from labelstudio_sam2.segmenter.zoo import resolve
from labelstudio_sam2.settings import Settings, SettingsError, load_settings

app = typer.Typer(
    help="A Label Studio ML backend for SAM 2: click, and the mask is there.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: HOST or 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. [default: PORT or 9090]")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="nano (ships with this package, for trying), sam2/hiera_tiny, sam2/hiera_small, sam2/hiera_b_plus, "
            "sam2/hiera_large, or the path of a checkpoint. [default: MODEL or sam2/hiera_small]"
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, mps or cpu. [default: DEVICE or auto]")] = None,
) -> None:
    """Serve Label Studio until Ctrl-C.

    Every setting is an environment variable; `labelstudio-sam2 settings` lists them with their values.

    Try it without a download: labelstudio-sam2 serve --model nano
    """
    from labelstudio_sam2.wsgi import serve as serve_with_gunicorn  # noqa: PLC0415  `demo` needs no server

    try:
        settings = load_settings(host=host, port=port, model=model, device=device)
        resolve(settings.model, settings.model_config_file)
    except ValueError as error:
        raise _usage_error(str(error)) from None
    serve_with_gunicorn(settings)


@app.command()
def settings() -> None:
    """List every setting: its environment variable, its value now and what it does. Secrets are not shown."""
    try:
        now = load_settings()
    except SettingsError as error:
        raise _usage_error(str(error)) from None
    table = Table("variable", "value", "meaning", show_lines=False, header_style="bold")
    for name, field in Settings.model_fields.items():
        value = getattr(now, name)
        shown = ",".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
        table.add_row(name.upper(), shown, field.description)
    Console().print(table)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its data, logs and password.")] = Path(".demo"),
    label_studio_python: Annotated[
        Path, typer.Option(help="The Python of the virtual environment that holds Label Studio.")
    ] = Path(".venv-label-studio/bin/python"),
    *,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready and leave it running.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop one that was left running.")] = False,
) -> None:
    """Start a real Label Studio with this backend, a project and pictures; `make demo` installs what it needs."""
    if stop:
        Console().print("Stopped." if stop_demo(folder) else "No demo is running.")
        return
    try:
        run_demo(folder, label_studio_python=label_studio_python, detach=detach)
    except DemoError as error:
        Console(stderr=True).print(f"The demo could not be started. {error}", style="red", markup=False)
        raise typer.Exit(1) from None


def main() -> None:
    """Run the command line."""
    app()


def _usage_error(text: str) -> typer.Exit:
    Console(stderr=True).print(f"These settings cannot be used:\n{text}", style="red", markup=False)
    return typer.Exit(2)
