"""The VAE that stood in for the backbone's own when a submission's pictures were drawn.

In: a submission's run.json; the place that `--vae` names. Out: what nobody here can tell, in words;
where the VAE lies; a sentence where its files are others. A redraw alone fetches what run.json
names: safetensors of the hub, at the commit that it tells.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.exchange.submissions.submission_archive import Refused
from benchmarks.safe_paths import shown
from perfusion_core.errors import UserError
from perfusion_core.hub import fetch_vae
from perfusion_core.places import locate_vae
from perfusion_core.weight_digests import vae_digest


def check_vae(about: Mapping[str, Any], given: str) -> None:
    """One VAE by run.json itself, and the one that was given."""
    vae = vae_of(about)
    if vae.get("sha256") != about.get("protocol", {}).get("vae"):
        raise Refused("its protocol has another VAE than its backbone tells")
    if given and not vae:
        raise UserError(
            f"--vae {given}: these pictures were drawn with the backbone's own VAE; leave it out"
        )
    if given:
        refuse_other(vae, locate_vae(given)[1])


def vae_as_told(about: Mapping[str, Any]) -> str:
    """What has to be believed of it where nobody gave its place; empty for the backbone's own."""
    vae = vae_of(about)
    return f"the VAE {shown(vae.get('id'))}: give its place with --vae" if vae else ""


def vae_to_draw_with(about: Mapping[str, Any], given: str) -> str:
    """Its place, fetched where it is of the hub; empty for the backbone's own."""
    vae = vae_of(about)
    if given or not vae:
        return given
    name, revision = vae.get("id", ""), vae.get("revision", "")
    if not re.fullmatch("[0-9a-f]{40}", revision):
        raise UserError(
            f"--redraw draws with the VAE {shown(name)}, and the archive tells no commit of the "
            f"hub: give its place with --vae"
        )
    from huggingface_hub.errors import HFValidationError

    try:
        place = fetch_vae(name, revision)
    except HFValidationError:
        raise Refused(f"its VAE {shown(name)} can be no hub id") from None
    refuse_other(vae, place)
    return str(place)


def vae_of(about: Mapping[str, Any]) -> dict[str, str]:
    vae: dict[str, str] = about.get("backbone", {}).get("vae", {})
    return vae


def refuse_other(vae: Mapping[str, str], place: Path) -> None:
    if vae_digest(place) != vae.get("sha256"):
        raise Refused(
            f"its VAE {shown(vae.get('id'))} has another digest than the one here: other weights "
            f"decoded its pictures"
        )
