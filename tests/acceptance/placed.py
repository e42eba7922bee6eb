"""Where a bundle's graph really runs, in a process of its own: run as a script with a bundle and a provider.

Prints one JSON object: the warning and the placement of a load, its shares of the time, the error of a strict load,
and the trials of a tuning. Needs Sanderling's runtime alone.
"""

from __future__ import annotations

import json
import sys
import warnings

import sanderling


def main() -> None:
    bundle, provider = sys.argv[1:]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = sanderling.load(bundle, provider=provider)
    placement = model.measure_placement()
    model.close()
    refused = ""
    try:
        sanderling.load(bundle, provider=provider, strict=True).close()
    except sanderling.ProviderError as error:
        refused = str(error)
    tuned = sanderling.tune(bundle, "latency", time_limit=120)
    trials = [(trial.plan.provider, trial.seconds, trial.reason) for trial in tuned.trials]
    print(
        json.dumps(
            {
                "warnings": [str(w.message) for w in caught if w.category is sanderling.PartialPlacementWarning],
                "nodes": placement.nodes,
                "time": placement.time_shares,
                "complete": placement.complete,
                "refused": refused,
                "tuned": tuned.plan.provider,
                "trials": trials,
            }
        )
    )


if __name__ == "__main__":
    main()
