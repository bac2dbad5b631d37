"""From the address in a task to the place it is fetched from.

No address is ever opened as a file of this machine. What Label Studio keeps (uploads, local files, cloud storages) is
asked of Label Studio, at `LABEL_STUDIO_URL` and with its token, so that Label Studio decides who may see it.
"""

import base64
import re
from dataclasses import dataclass, field, replace

from labelstudio_sam2.errors import UrlRefusedError
from labelstudio_sam2.images.address import HostPolicy, WebAddress, check_text

CLOUD_SCHEMES = ("s3://", "gs://", "azure-blob://")

_SIGNS = re.compile(r"/(tasks|projects)/\d+/(presign|resolve)/\Z")
_SIGNED_BY_PREFIX = ("x-amz-", "x-goog-")
_SIGNED_BY = {
    "sig": "sig se sp sv sr st spr sip skoid sktid skt ske sks skv",  # Azure
    "signature": "signature expires googleaccessid awsaccesskeyid key-pair-id policy",  # S3 v2, Google v1, CloudFront
}


@dataclass(frozen=True)
class Place:
    """Where a picture's file is fetched from.

    Attributes:
        address: What to ask for.
        signs: Label Studio will answer with a redirect to a signed address.
        name: What the file is known by: the address without a signature, which is another one each time.
    """

    address: WebAddress
    signs: bool
    name: str = field(repr=False)


def find_place(address: str, policy: HostPolicy, task_id: int | None) -> Place:
    """Return where to fetch what a task's data names.

    A path of Label Studio on a host that is not listed is asked of `LABEL_STUDIO_URL` instead: in containers Label
    Studio writes its public address into tasks (`http://localhost:8080/data/local-files/?d=…`), which leads elsewhere
    from here. That opens nothing which the path alone would not.

    Args:
        address: As in the task: a path of Label Studio, an s3, gs or azure-blob address, or an http(s) address.
        policy: Who may be asked.
        task_id: The task, which Label Studio needs in order to sign an address of a cloud storage.

    Raises:
        UrlRefusedError: Any other address, or one that is malformed, or `LABEL_STUDIO_URL` is needed and not set.
    """
    address = address.strip(" ")
    check_text(address)
    if address.lower().startswith(CLOUD_SCHEMES):
        return _cloud_place(address, policy, task_id)
    if address.startswith("/") and not address.startswith("//"):
        return _label_studio_place(address, policy)
    if not address.lower().startswith(("http://", "https://")):
        raise UrlRefusedError("the image address is neither a path of Label Studio nor http, https, s3, gs, azure-blob")
    asked = WebAddress.parse(address)
    if policy.label_studio is not None and not policy.is_listed(asked):
        address_there = _at_label_studio(asked, policy.label_studio)
        if policy.is_kept(address_there):
            return _kept_place(address_there)
    return Place(asked, signs=False, name=_without_signature(asked))


def _cloud_place(uri: str, policy: HostPolicy, task_id: int | None) -> Place:
    if task_id is None:
        raise UrlRefusedError("Label Studio signs addresses of a cloud storage for a task, and the task has no id")
    encoded = base64.urlsafe_b64encode(uri.encode()).decode("ascii")
    place = _label_studio_place(f"/tasks/{task_id}/presign/?fileuri={encoded}", policy)
    return Place(place.address, signs=True, name=uri)


def _label_studio_place(target: str, policy: HostPolicy) -> Place:
    label_studio = policy.label_studio
    if label_studio is None:
        raise UrlRefusedError("set LABEL_STUDIO_URL: the image is kept by Label Studio")
    asked = WebAddress.parse(f"{label_studio.scheme}://{label_studio.netloc}{target}")
    address = _at_label_studio(asked, label_studio)
    if not policy.is_kept(address):
        raise UrlRefusedError("the image address is a path, but none where Label Studio keeps pictures")
    return _kept_place(address)


def _at_label_studio(asked: WebAddress, label_studio: WebAddress) -> WebAddress:
    """Return the same path at Label Studio, which may have the path in it that Label Studio is served under."""
    base = label_studio.path.rstrip("/")
    return replace(label_studio, path=base + asked.path.removeprefix(base), query=asked.query)


def _kept_place(address: WebAddress) -> Place:
    return Place(address, signs=bool(_SIGNS.search(address.path)), name=_without_signature(address))


def _without_signature(address: WebAddress) -> str:
    """Return the address without the parameters that a signature consists of.

    Short names such as Azure's `se` count as such only beside the signature itself: alone they may name the picture.
    """
    parameters = address.query.split("&")
    names = {_name(parameter) for parameter in parameters}
    signing = {name for mark, group in _SIGNED_BY.items() if mark in names for name in group.split()}
    kept = [p for p in parameters if _name(p) not in signing and not _name(p).startswith(_SIGNED_BY_PREFIX)]
    return f"{address}?{'&'.join(kept)}"


def _name(parameter: str) -> str:
    return parameter.partition("=")[0].lower()
