"""Text as a task: where it comes from and how it is cut into tokens (paper, appendix on language modelling)."""

from dataclasses import dataclass

from mesaopt.spec.json import TASK_NAME, Spec, require
from mesaopt.spec.words import module_name, require_word


@dataclass(frozen=True)
class Text(Spec):
    """Text as a task: where it comes from (`corpora`, files of data/corpora), how it is cut into tokens (`tokeniser`, a file of
    data/tokenisers), and how long sequences are.

    A share `validation` of the families of documents is held back. `megabytes` ends a corpus after so many (0: all of it).
    `path` and `column` are for the corpus `folder` alone: where a text of one's own lies, and where a document is in its files.
    """

    name: str
    corpora: tuple[str, ...]
    context_length: int = 1024
    tokeniser: str = "bytes"
    vocabulary: int = 0
    validation: float = 0.05
    megabytes: float = 0.0
    path: str = ""
    column: str = "text"

    def __post_init__(self) -> None:
        require(bool(TASK_NAME.fullmatch(self.name)), f"text name {self.name!r}: must be lower-case letters, digits, _ and -")
        require(len(self.corpora) >= 1, f"text {self.name}: corpora must name at least one")
        require(len(set(self.corpora)) == len(self.corpora), f"text {self.name}: corpora names one twice")
        for corpus in self.corpora:
            require_word("corpus", corpus)
        require_word("tokeniser", self.tokeniser)
        require(self.context_length >= 2, f"text {self.name}: context_length must be at least 2, not {self.context_length}")
        require(self.vocabulary >= 0, f"text {self.name}: vocabulary must not be negative, not {self.vocabulary}")
        require(0 < self.validation < 1, f"text {self.name}: validation must be between 0 and 1, not {self.validation}")
        require(self.megabytes >= 0, f"text {self.name}: megabytes must not be negative, not {self.megabytes}")

    @property
    def kind(self) -> str:
        """As tasks on systems have one."""
        return "text"

    def modules(self) -> tuple[str, ...]:
        """Modules that no import names: the words of the spec do."""
        corpora = (module_name("corpus", corpus) for corpus in self.corpora)
        return (*corpora, module_name("tokeniser", self.tokeniser))
