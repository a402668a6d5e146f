"""Which domain a document belongs to, and what share of the tokens each domain gets.

In: the `mixture` of the `shards` section: a `mixture.json` of `haina mixture fit`, or weights written out. Out: the
domain of a column's value, and weights that agree with the domains that the shards hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haina.runtime.errors import HainaError
from haina.runtime.files import read_json
from haina.shards.config import MixtureSection


@dataclass(frozen=True)
class Mixture:
    """Weights of domains.

    Attributes:
        name: for messages.
        by: column of the documents that names the domain.
        weights: share of each domain.
        of_text: the shares are of UTF-8 bytes, not of tokens: they mean the same for every tokenizer.
        sources: values, or folders that begin them, of each domain; None: a value is its own domain.
    """

    name: str
    by: str
    weights: Mapping[str, float]
    of_text: bool
    sources: Mapping[str, list[str]] | None

    def domain_of(self, value: str | None) -> str:
        """The domain of a document whose column `by` holds `value`.

        Raises:
            HainaError: it belongs to none.
        """
        if self.sources is None:
            found = value if value in self.weights else None
        else:
            found = next(
                (
                    domain
                    for domain, sources in self.sources.items()
                    if any(value == source or str(value).startswith(f"{source}/") for source in sources)
                ),
                None,
            )
        if found is None:
            raise HainaError(
                f"{self.name}: no weight for documents with {self.by} {value!r}",
                "give it a weight; 0 leaves it out",
            )
        return found


def read_mixture(config: Path | MixtureSection | None) -> Mixture | None:
    """What the recipe says.

    Raises:
        HainaError: the file is missing or is no mixture.
    """
    if config is None:
        return None
    if isinstance(config, MixtureSection):
        mixture = Mixture("shards.mixture", config.by, config.weights, False, config.sources)
    else:
        content: Any = read_json(config)
        try:
            weights = {str(name): float(weight) for name, weight in content["text_weights"].items()}
            mixture = Mixture(str(config), str(content["by"]), weights, True, content["sources"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise HainaError(
                f"{config}: not a mixture ({error!r})", "name a mixture.json of `haina mixture fit`"
            ) from error
    weights = dict(mixture.weights)
    if not all(0.0 <= weight < float("inf") for weight in weights.values()) or sum(weights.values()) <= 0.0:
        raise HainaError(f"{mixture.name}: weights must be numbers from 0 up, not all 0", "mend them")
    return mixture


def token_weights(mixture: Mixture, tokens: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, float]:
    """Share of the tokens of each domain, summing to one, by the domains' names.

    Args:
        tokens: tokens of each domain that training can read.
        sizes: UTF-8 bytes of the same documents.

    Raises:
        HainaError: a domain with a weight has no documents to train on.
    """
    for name, weight in mixture.weights.items():
        if weight > 0.0 and not tokens.get(name):
            raise HainaError(
                f"{mixture.name}: no documents of domain {name!r} to train on",
                f"give it weight 0; the domains are {', '.join(sorted(tokens)) or 'none'}",
            )
    shares = {
        name: weight * (tokens[name] / max(1, sizes[name]) if mixture.of_text else 1.0)
        for name, weight in sorted(mixture.weights.items())
        if weight > 0.0
    }
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}
