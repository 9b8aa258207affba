"""Validates an RO-Crate as `rocrate-validator` does, without a network: `python validate_crate.py FOLDER`, a line per finding.

The validator fetches one thing, the vocabulary of RO-Crate 1.1 (its JSON-LD context). Here it is told the terms that the
archive's metadata use, each with the address that the specification gives it; any other is a finding, as it is online.
"""

import io
import json
import sys
import urllib.request
from typing import Any

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
SCHEMA = (
    "CreativeWork Dataset CreateAction SoftwareApplication ScholarlyArticle Organization name description version datePublished"
    " license author publisher citation hasPart mentions contentSize encodingFormat instrument object result about"
)
TERMS = {
    **{term: f"http://schema.org/{term}" for term in SCHEMA.split()},
    "File": "http://schema.org/MediaObject",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
    "sha256": "http://id.loc.gov/vocabulary/preservation/cryptographicHashFunctions/sha256",
}
TEXT = json.dumps({"@context": TERMS}).encode()


class Answer(io.BytesIO):
    """What both of the validator's ways to fetch expect: a file with an address, and a response of `requests`."""

    url, status_code, headers, encoding = CONTEXT, 200, {"Content-Type": "application/ld+json"}, "utf-8"
    text, content, ok, status = TEXT.decode(), TEXT, True, 200

    def json(self) -> Any:
        return json.loads(TEXT)

    def geturl(self) -> str:
        return CONTEXT

    def info(self) -> dict[str, str]:
        return self.headers


def fetch(request: Any, *arguments: Any, **options: Any) -> Answer:
    address = getattr(request, "full_url", request)
    if address != CONTEXT:
        raise OSError(f"no network here: {address}")
    return Answer(TEXT)


def main(folder: str) -> int:
    urllib.request.urlopen = fetch
    import rdflib.plugins.shared.jsonld.util as rdflib_jsonld
    from rocrate_validator import services
    from rocrate_validator.utils.http import HttpRequester

    HttpRequester.get = lambda self, address, **options: fetch(address)
    for module in (rdflib_jsonld, sys.modules["rdflib.parser"], sys.modules.get("rdflib._networking")):
        if hasattr(module, "urlopen") or hasattr(module, "_urlopen"):
            setattr(module, "urlopen" if hasattr(module, "urlopen") else "_urlopen", fetch)
    found = services.validate(
        {
            "rocrate_uri": folder,
            "profile_identifier": "ro-crate-1.1",
            "requirement_severity": "RECOMMENDED",
            "skip_availability_check": True,
        }
    )
    for issue in found.get_issues():
        print(f"{issue.severity.name}: {issue.message}")
    return int(bool(found.get_issues()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
