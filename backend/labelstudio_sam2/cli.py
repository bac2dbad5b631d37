"""The command line: `serve`, `precompute`, `segment`, `weights`, `doctor`, `settings`, `demo`, `demo-project`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table

from labelstudio_sam2.app import check_settings
from labelstudio_sam2.demo.processes import DemoError
from labelstudio_sam2.demo.project import TITLE, LabelStudioClient, explained, prepare_project
from labelstudio_sam2.demo.run import examine_demo, run_demo, stop_demo
from labelstudio_sam2.errors import BackendError, BadPromptError, BadRequestError
from labelstudio_sam2.settings import Settings, SettingsError, load_settings
from labelstudio_sam2.weights.errors import WeightsError

app = typer.Typer(
    help="A Label Studio ML backend for SAM 2: click, and the mask is there.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: HOST, else 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: PORT, else 9090.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="nano (ships with this package, for trying), sam2/hiera_tiny, sam2/hiera_small, sam2/hiera_b_plus, "
            "sam2/hiera_large, or the path of a checkpoint. Default: MODEL, else sam2/hiera_small."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, mps or cpu. Default: DEVICE, else auto.")] = None,
) -> None:
    """Serve Label Studio until Ctrl-C.

    Every setting is an environment variable; `labelstudio-sam2 settings` lists them with their values. The options hold
    for this command only: `doctor` and `precompute` read the variables, so set those for more than a try.

    Try it without a download: labelstudio-sam2 serve --model nano
    """
    from labelstudio_sam2.wsgi import check_port  # noqa: PLC0415  `demo` needs no server
    from labelstudio_sam2.wsgi import serve as serve_with_gunicorn  # noqa: PLC0415  `demo` needs no server

    try:
        settings = load_settings(host=host, port=port, model=model, device=device)
        check_settings(settings)
        check_port(settings)
    except ValueError as error:
        raise _usage_error(str(error)) from None
    serve_with_gunicorn(settings)


@app.command()
def precompute(
    project: Annotated[
        list[int], typer.Option(min=1, help="A project's number, as in its address; may be given several times.")
    ],
    model: Annotated[
        str | None, typer.Option(help="What the server runs with. Default: MODEL, else sam2/hiera_small.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, mps or cpu. Default: DEVICE, else auto.")] = None,
    *,
    every_task: Annotated[
        bool, typer.Option("--all", help="Every task; otherwise only those that nobody has finished.")
    ] = False,
) -> None:
    """Embed the pictures of whole projects ahead, so that no annotator waits for the image encoder.

    They go into the folder EMBEDDING_DISK_DIR, where the server finds them if it has the same folder, MODEL,
    PRECISION and kind of device. It may run meanwhile. What is there already is passed over, so stop it with Ctrl-C
    whenever you like and start it again.

    \b
    Example:
      export LABEL_STUDIO_URL=http://localhost:8080 LABEL_STUDIO_API_KEY=...
      export EMBEDDING_DISK_DIR=embeddings
      labelstudio-sam2 precompute --project 3
      labelstudio-sam2 serve

    It ends with 0 if all is there, with 1 if something failed or had no room, with 130 after Ctrl-C.
    """  # noqa: D301 - the backspace keeps the lines of a paragraph apart
    from labelstudio_sam2.commands import precompute as command  # noqa: PLC0415  `serve` lists no tasks

    try:
        settings = load_settings(model=model, device=device)
        console = Console(stderr=True)
        outcome = command.precompute_projects(project, settings, unfinished_only=not every_task, console=console)
    except ValueError as error:
        raise _usage_error(str(error)) from None
    except (BackendError, OSError) as error:
        raise _failure(str(error), 1) from None
    except KeyboardInterrupt:
        os._exit(130)  # at once: threads that compute would be waited for, and every file is whole
    typer.echo(outcome.summary())
    raise typer.Exit(outcome.exit_code)


@app.command()
def segment(  # noqa: PLR0913, PLR0917 - what a person can ask
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The picture: a file or a web address.")],
    point: Annotated[
        list[str] | None, typer.Option(metavar="X,Y", help="A point on the object; may be given several times.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(metavar="X,Y", help="A point that does not belong to it; several times too.")
    ] = None,
    box: Annotated[
        str | None, typer.Option(metavar="X0,Y0,X1,Y1", help="A box around it: left, top, right, bottom.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="nano, sam2/hiera_small, ... as `serve` takes them. Default: MODEL, else sam2/hiera_small."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, mps or cpu. Default: DEVICE, else auto.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the mask: a PNG, white on black.")] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="Write the picture with mask and prompt drawn onto it: PNG, JPEG or WebP.")
    ] = None,
    polygons: Annotated[
        Path | None, typer.Option(help="Write the mask's outer outlines: JSON, in pixels; holes are filled.")
    ] = None,
) -> None:
    """Segment one object in a picture and print its score, area and box.

    All numbers are pixels of the upright picture; 0,0 is its top left corner.
    Points and box describe one object. Without any, the most prominent one is found;
    negative points alone are taken away from that.

    \b
    Examples:
      labelstudio-sam2 segment photo.jpg --overlay overlay.png
      labelstudio-sam2 segment photo.jpg --point 320,240 --negative 400,260 --out mask.png
      labelstudio-sam2 segment photo.jpg --box 100,80,500,400 --polygons outline.json
      labelstudio-sam2 segment photo.jpg --point 320,240 --model nano    (without a download)
    """  # noqa: D301 - the backspace keeps the lines of a paragraph apart
    from labelstudio_sam2.commands import segment as command  # noqa: PLC0415  `serve` draws nothing

    try:
        prompt = command.prompt_of(point or [], negative or [], box)
        outputs = command.Outputs(mask=out, overlay=overlay, polygons=polygons)
        outputs.spare(image)
        found = command.segment_picture(image, prompt, load_settings(model=model, device=device))
        written = found.write(outputs)
    except SettingsError as error:
        raise _usage_error(str(error)) from None
    except (BadPromptError, BadRequestError, ValueError) as error:
        raise _failure(str(error), 2) from None
    except (BackendError, OSError) as error:
        raise _failure(str(error), 1) from None
    typer.echo(found.summary())
    for path in written:
        typer.echo(f"wrote  {path}")


weights = typer.Typer(help="Get the official SAM 2 checkpoints, and check them.", no_args_is_help=True)
app.add_typer(weights, name="weights")

WeightsDir = Annotated[
    Path | None, typer.Option(help="The folder they belong into. Default: WEIGHTS_DIR, else weights.", metavar="FOLDER")
]


@weights.command("fetch")
def fetch_weights(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="tiny, small, b_plus, large, or a whole id such as sam2.0/hiera_tiny; several times too. "
            "Default: the models that MODEL and EXTRA_MODELS name.",
        ),
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every official checkpoint: 3.1 GB.")] = False,
    file: Annotated[
        Path | None, typer.Option(help="Take a file that you brought, and download nothing.", metavar="PATH")
    ] = None,
    weights_dir: WeightsDir = None,
) -> None:
    """Download checkpoints, verify them and put them where the server looks for them.

    What is there already is only verified. A download that was cut goes on where it ended, also at the next call.
    Proxies of the environment are used.

    \b
    Examples:
      labelstudio-sam2 weights fetch --model small
      labelstudio-sam2 weights fetch --file /media/stick/sam2.1_hiera_small.pt
      WEIGHTS_OFFLINE=1 labelstudio-sam2 weights fetch --model small    (says which file to bring)
    """  # noqa: D301 - the backspace keeps the lines of a paragraph apart
    from labelstudio_sam2.commands import weights as command  # noqa: PLC0415  `serve` downloads nothing

    with _weights_errors():
        now = load_settings(weights_dir=weights_dir)
        if every and (model or file is not None):
            raise ValueError("--all goes with neither --model nor --file")
        named = command.models_named(model or [])
        if file is not None:
            command.take_file(file, named, now, typer.echo)
        elif every:
            command.fetch_models(command.official_models(), now, typer.echo)
        else:
            command.fetch_models(named or command.models_of(now), now, typer.echo)


@weights.command("list")
def list_weights(weights_dir: WeightsDir = None) -> None:
    """List every model by its size, its file, and whether that is there and verified."""
    from labelstudio_sam2.commands import weights as command  # noqa: PLC0415  `serve` lists nothing

    with _weights_errors():
        for line in command.list_models(load_settings(weights_dir=weights_dir)):
            typer.echo(line)


@weights.command("verify")
def verify_weights(
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Which must be there; several times too. Default: whatever is there."),
    ] = None,
    weights_dir: WeightsDir = None,
) -> None:
    """Compare the checkpoints with the SHA-256 they should have; exit code 1 if one is damaged, incomplete or missing.

    A file that no model of the table has is called unknown; that is no failure.
    """
    from labelstudio_sam2.commands import weights as command  # noqa: PLC0415  `serve` verifies its own

    is_good = True
    with _weights_errors():
        now = load_settings(weights_dir=weights_dir)
        for line, is_one_good in command.verify_models(command.models_named(model or []), now):
            typer.echo(line)
            is_good = is_good and is_one_good
    if not is_good:
        raise typer.Exit(1)


@app.command()
def doctor(
    project: Annotated[
        int | None, typer.Option(help="The project's number, as in its address. Default: all with an ML backend.")
    ] = None,
    backend_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the backend runs. Default: HOST and PORT of this machine."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="As `serve` takes it, if the backend was started with one. Default: MODEL.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="For --here: auto, cuda, mps or cpu. Default: DEVICE.")] = None,
    *,
    here: Annotated[
        bool, typer.Option("--here", help="Make the mask in this process, not in the running backend. Loads the model.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Find out why "connected" but no mask comes: from the settings to one click, and what to do.

    Run it where the backend runs, with the same environment variables. It asks Label
    Studio and the backend, makes one mask and changes nothing.

    \b
    A line for each finding:
      ✓  it is as it should be
      !  clicks are answered, but something will be missed
      ✗  clicks are not answered, or not all
      -  it could not be looked at, and why

    \b
    Examples:
      labelstudio-sam2 doctor
      labelstudio-sam2 doctor --project 7
      labelstudio-sam2 doctor --backend-url http://gpu-box:9090
      labelstudio-sam2 doctor --here --model nano    (no backend runs yet)
      docker compose exec sam2-cpu labelstudio-sam2 doctor

    \b
    Exit codes:
      0  no problem was found; there may be warnings
      1  a problem was found
      2  the settings or options cannot be used
    """  # noqa: D301 - the backspace keeps the lines of a paragraph apart
    from labelstudio_sam2.commands.doctor import run_doctor  # noqa: PLC0415  `serve` examines nothing

    raise typer.Exit(
        run_doctor(project=project, backend_url=backend_url, here=here, model=model, device=device, as_json=json)
    )


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
        table.add_row(name.upper(), _shown(value), field.description)
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
    doctor: Annotated[
        bool, typer.Option("--doctor", help="Examine one instead: from its settings to one click, as `doctor` does.")
    ] = False,
) -> None:
    """Try it on this machine: Label Studio and this backend with nano, a project and pictures to click on.

    `make demo` installs what it needs, then calls it. It prints the project's address, a user name and a password, and
    stays until Ctrl-C. Your work is kept; the next start takes seconds.
    """
    if stop:
        Console().print("Stopped." if stop_demo(folder) else "No demo is running.")
        return
    exit_code = 0
    try:
        if doctor:
            exit_code = examine_demo(folder)
        else:
            run_demo(folder, label_studio_python=label_studio_python, detach=detach)
    except DemoError as error:
        raise _failure(f"The demo could not be {'examined' if doctor else 'started'}. {error}", 1) from None
    raise typer.Exit(exit_code)


@app.command()
def demo_project(
    backend_url: Annotated[
        str,
        typer.Option(
            metavar="URL", help="Where Label Studio reaches this backend: with docker compose http://sam2-backend:9090."
        ),
    ] = "http://localhost:9090",
) -> None:
    """Make the demo's project in a Label Studio of your own, connect it to this backend, and print its address.

    LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY say in which; the token's user must be one who may make projects. A
    second run adds only what lacks.

    \b
    Examples:
      labelstudio-sam2 demo-project
      docker compose exec sam2-cpu labelstudio-sam2 demo-project --backend-url http://sam2-backend:9090
    """  # noqa: D301 - the backspace keeps the lines of a paragraph apart
    try:
        now = load_settings()
        with LabelStudioClient.from_settings(now) as client:
            project_id = prepare_project(client, client.project_with_title(TITLE), backend_url.rstrip("/"))
    except SettingsError as error:
        raise _usage_error(str(error)) from None
    except (BackendError, httpx.HTTPError) as error:
        raise _failure(f"Label Studio did not take the project: {explained(error)}", 1) from None
    typer.echo(f"The project {TITLE!r} has number {project_id} and is connected to {backend_url}.")
    typer.echo(f"Open it: {str(now.label_studio_url).rstrip('/')}/projects/{project_id}/data")
    typer.echo("(If your browser knows Label Studio under another address, as with docker compose, take that one.)")


def main() -> None:
    """Run the command line."""
    app()


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case tuple():
            return ",".join(map(str, value))
        case float():
            return f"{value:g}"
    return str(value)


def _usage_error(text: str) -> typer.Exit:
    Console(stderr=True).print(f"These settings cannot be used:\n{text}", style="red", markup=False)
    return typer.Exit(2)


@contextmanager
def _weights_errors() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        raise _usage_error(str(error)) from None
    except ValueError as error:
        raise _failure(str(error), 2) from None
    except (WeightsError, OSError) as error:
        raise _failure(str(error), 1) from None
    except KeyboardInterrupt:
        raise _failure("Stopped. What came is kept, the same command goes on from there.", 130) from None


def _failure(text: str, exit_code: int) -> typer.Exit:
    Console(stderr=True).print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(exit_code)
