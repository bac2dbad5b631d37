"""Every setting, once. Each is an environment variable of the field's name in capitals; docs/settings.md lists them."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Device: TypeAlias = Literal["auto", "cuda", "mps", "cpu"]
Precision: TypeAlias = Literal["auto", "fp32", "fp16", "bf16"]


class SettingsError(ValueError):
    """A setting is wrong; the message names the variable and says what is wanted, a line each."""


class Settings(BaseSettings):
    """The backend's settings, read from the environment."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, protected_namespaces=())

    # Label Studio
    label_studio_url: AnyHttpUrl | None = Field(
        None, description="Where this backend reaches Label Studio, such as http://label-studio:8080"
    )
    label_studio_api_key: SecretStr | None = Field(
        None, description="A personal access token or a legacy token of Label Studio, to fetch pictures with"
    )
    allowed_image_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Further hosts pictures may come from: host or host:port, comma-separated; * is every public one",
    )
    basic_auth_user: str | None = Field(None, description="User name that Label Studio must send (Basic auth)")
    basic_auth_pass: SecretStr | None = Field(None, description="Password that Label Studio must send (Basic auth)")

    # model
    model: str = Field(
        "sam2/hiera_small",
        description="nano, sam2/hiera_tiny, sam2/hiera_small, sam2/hiera_b_plus, sam2/hiera_large, the same with "
        "sam2.0/ for the older checkpoints, or the path of a checkpoint",
    )
    model_config_file: Path | None = Field(None, description="The config (YAML) of a checkpoint of your own")
    weights_dir: Path = Field(Path("weights"), description="Folder with the official checkpoints")
    weights_url: AnyHttpUrl | None = Field(
        None,
        description="Where `weights fetch` finds the official checkpoints instead of at Meta: a folder on the web that "
        "holds them under their names",
    )
    weights_offline: bool = Field(
        default=False, description="Whether `weights fetch` downloads nothing and only says which files are wanted"
    )
    device: Device = Field("auto", description="auto takes cuda, then mps, then cpu")
    precision: Precision = Field("auto", description="Of the image encoder; auto: bf16 or fp16 on cuda, else fp32")
    embedding_cache_mb: int = Field(
        2048, ge=1, description="Memory for embeddings on the device, in MiB, at 8 a picture"
    )
    embedding_disk_dir: Path | None = Field(
        None,
        description="Folder where embeddings outlive a restart and are shared by several processes; without one they "
        "are in memory only",
    )
    embedding_disk_mb: int = Field(
        20480, ge=0, description="What EMBEDDING_DISK_DIR may hold, in MiB, at 8 a picture; 0 for none"
    )
    prefetch_mb: int = Field(
        512,
        ge=0,
        description="Of EMBEDDING_CACHE_MB, in MiB and at most half: for pictures of open tasks and the tasks after "
        "them that nobody has clicked on yet; 0 embeds nothing ahead",
    )
    prefetch_tasks: int = Field(
        3,
        ge=0,
        le=32,
        description="How many tasks after an open one are embedded ahead; needs LABEL_STUDIO_URL and "
        "LABEL_STUDIO_API_KEY",
    )

    # SAM 2 API
    extra_models: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Models that requests may ask for beside MODEL, comma-separated; loaded when first asked for"
    )
    api_key: SecretStr | None = Field(
        None, description="Key that requests to /sam2 and /model must send; without one, theirs are ignored"
    )
    allow_file_inputs: bool = Field(
        default=False, description="Whether requests may name files of this machine as pictures"
    )

    # server
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 inside a container")
    port: int = Field(9090, ge=0, le=65535, description="Port to listen on")
    threads: int = Field(40, ge=4, le=256, description="Requests served at once; two are kept for health checks")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Bodies are never logged")

    # limits
    max_request_mb: int = Field(16, ge=1, description="Largest request body, in MB")
    max_image_mb: int = Field(50, ge=1, description="Largest picture file, in MB")
    max_image_megapixels: int = Field(50, ge=1, description="Largest picture, in megapixels")
    max_tasks: int = Field(100, ge=1, description="Tasks in one request that asks for masks")
    max_regions: int = Field(1000, ge=1, description="Regions that an annotator prompts with, in one request")
    max_objects: int = Field(256, ge=1, description="Masks that one request may ask for")
    max_label_config_kb: int = Field(256, ge=1, description="Longest labeling configuration, in kB")
    max_waiting: int = Field(32, ge=1, description="Requests that may wait for the device before others get 503")
    max_downloads: int = Field(16, ge=1, description="Pictures downloaded at once")
    max_downloads_per_host: int = Field(8, ge=1, description="Of these, from one host")
    max_redirects: int = Field(3, ge=0, description="Redirects followed in one download")
    request_seconds: float = Field(
        60, gt=0, description="How long a request may take to come in, and then wait for the device"
    )
    drain_seconds: int = Field(30, ge=1, description="How long a server told to stop lets requests end")
    image_connect_seconds: float = Field(3, gt=0, description="Deadline to connect to a picture's server")
    image_download_seconds: float = Field(15, gt=0, description="Deadline of a whole picture download")
    image_revalidate_seconds: float = Field(
        60, ge=0, description="How long a picture seen at an address is taken as unchanged without asking its server"
    )

    @property
    def own_url(self) -> str:
        """Where a backend with these settings is reached from its own machine."""
        host = self.host
        try:
            ip = ip_address(host)
        except ValueError:
            pass  # a name
        else:
            if ip.is_unspecified:
                host = "127.0.0.1"
            elif ip.version == 6:
                host = f"[{host}]"
        return f"http://{host}:{self.port}"

    @field_validator("allowed_image_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(host.strip().lower() for host in value.split(",") if host.strip())
        return value

    @field_validator("extra_models", mode="before")
    @classmethod
    def _split_models(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("label_studio_url")
    @classmethod
    def _without_credentials(cls, url: AnyHttpUrl | None) -> AnyHttpUrl | None:
        if url is not None and (url.username or url.password):
            raise ValueError("must not carry a user or a password, the token goes into LABEL_STUDIO_API_KEY")
        return url

    @field_validator("weights_url")
    @classmethod
    def _without_password(cls, url: AnyHttpUrl | None) -> AnyHttpUrl | None:
        if url is not None and (url.username or url.password):
            raise ValueError("must not carry a user or a password: bring the files by hand, `weights fetch --file`")
        return url

    @model_validator(mode="after")
    def _auth_is_whole(self) -> Self:
        if bool(self.basic_auth_user) != bool(self.basic_auth_pass):
            raise ValueError("BASIC_AUTH_USER and BASIC_AUTH_PASS go together: set both or none")
        return self


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment; overrides (by field name) win over it.

    Raises:
        SettingsError: One or more variables are wrong; all are named.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [
            f"{'_'.join(map(str, e['loc'])).upper() or 'settings'}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from None
