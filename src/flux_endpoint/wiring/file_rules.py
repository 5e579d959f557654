"""What the settings say of pictures' files, as engines take it."""

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.engine.parameters import FileRules
from flux_endpoint.settings.engine import EngineSettings


def file_rules(settings: EngineSettings) -> FileRules:
    """The rules of all files that the engines of a process make.

    Raises:
        SettingsError: pictures shall be signed, and cannot be.
    """
    if settings.c2pa_cert is None and settings.c2pa_key is None:
        return FileRules(has_prompts=settings.has_prompts_in_files)
    if settings.c2pa_cert is None or settings.c2pa_key is None:
        raise SettingsError("C2PA_CERT and C2PA_KEY must be set both, or neither")
    # Here and not above: few sign, and what it imports takes a third of a second.
    from flux_endpoint.engine.credentials import PictureSigner

    signer = PictureSigner(settings.c2pa_cert, settings.c2pa_key)
    return FileRules(has_prompts=settings.has_prompts_in_files, sign=signer.sign)
