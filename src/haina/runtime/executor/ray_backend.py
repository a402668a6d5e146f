"""The same tasks on a Ray cluster.

Ray places a task on a machine with a free core and says when that machine or its worker is gone; everything else -
what is finished, what is run again, what is split - is decided here as on one machine, from the same
manifest. Results travel as receipts of a few bytes; data goes through files on a path that all machines see, or an
object store. So a lost machine costs the tasks that ran on it and nothing else.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Sequence
from typing import Any

from haina.runtime.errors import HainaError
from haina.runtime.executor.engine import DurableExecutor
from haina.runtime.executor.identity import code_of
from haina.runtime.executor.locations import Location, checksum_if_readable
from haina.runtime.executor.task import Call, Failed, Lost, Outcome, execute, unpack
from haina.runtime.progress import Reporter, SilentProgress

_CHECKS_AT_A_TIME = 1000


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise HainaError("ray is not installed", "pip install 'haina[ray]'") from error
    return ray


def execute_on_ray(payload: bytes, search: tuple[str, ...]) -> bytes:
    """Run a packed call in a Ray worker, which finds modules where the main process does."""
    sys.path.extend(path for path in search if path not in sys.path)
    return execute(payload)


class RayExecutor(DurableExecutor):
    """Tasks on a Ray cluster.

    Args:
        address: of the cluster, as `ray.init` takes it (`auto`, `HOST:PORT`, `ray://HOST:PORT`); None starts one on
            this machine for as long as the executor lives.
        workers: tasks at a time; None for two a core of the cluster, so that none waits for the next.
        reporter, state: see `DurableExecutor`; `state` is read and written by this process alone.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        reporter: Reporter | None = None,
        state: Location | None = None,
    ) -> None:
        super().__init__(reporter or SilentProgress(), state)
        self.address, self.workers = address, workers
        self._ray = _ray()
        self._started = False
        self._run: Any = None
        self._running: dict[Any, str] = {}

    def _open(self, calls: Sequence[Call]) -> None:
        if self._run is not None and self._ray.is_initialized():
            return
        if not self._ray.is_initialized():
            self._connect()
            self._started = True
        # Ray's own retries would run a task that is too large for the memory again beside others.
        self._run = self._ray.remote(num_cpus=1, max_retries=0)(execute_on_ray)

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if self.address is None:
            # `local`: none that happens to run here, or ran and left its address behind.
            settings |= {"address": "local", "num_cpus": self.workers, "include_dashboard": False}
        else:
            settings["address"] = self.address
        try:
            self._ray.init(**settings)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            place = self.address or "this machine"
            raise HainaError(
                f"no Ray cluster at {place}: {' '.join(str(error).split())[:200]}",
                "start one with `ray start --head`, or give its address",
            ) from error

    def _code(self, task: Callable[..., Any]) -> str:
        return code_of(task)

    def _checksums(self, outputs: Sequence[Location]) -> list[str]:
        # Where the files are near and many machines read: this one may be far from the store.
        if not outputs:
            return []
        self._open(())
        read = self._ray.remote(num_cpus=1)(checksum_if_readable)
        found: list[str] = []
        for start in range(0, len(outputs), _CHECKS_AT_A_TIME):
            part = outputs[start : start + _CHECKS_AT_A_TIME]
            found += self._ray.get([read.remote(output) for output in part])
        return found

    def _free(self) -> int:
        # Asked each time: machines come and go.
        limit = self.workers or 2 * int(self._ray.cluster_resources().get("CPU", 1))
        return max(1, limit) - len(self._running)

    def _start(self, call: Call) -> None:
        reference = self._run.remote(pickle.dumps(call), tuple(sys.path))
        self._running[reference] = str(call.output)

    def _results(self) -> list[tuple[str, Outcome]]:
        self._ray.wait(list(self._running), num_returns=1)
        ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [(self._running.pop(reference), self._outcome(reference)) for reference in ready]

    def _outcome(self, reference: Any) -> Outcome:
        errors = self._ray.exceptions
        try:
            return unpack(self._ray.get(reference))
        except errors.OutOfMemoryError:
            return Lost("Ray ended its worker because memory ran out")
        except (errors.NodeDiedError, errors.ObjectLostError, errors.OwnerDiedError):
            return Lost("its machine was lost", blameless=True)
        except errors.WorkerCrashedError as error:
            return Lost(_first_line(error))
        except errors.RaySystemError as error:
            return Lost(_first_line(error), blameless=True)
        except errors.RayError as error:
            return Failed(HainaError(f"Ray: {_first_line(error)}", "look at the cluster with `ray status`"))

    def _stop(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=10)
        self._running.clear()

    def close(self) -> None:
        """Leave the cluster, and end it when it was started here."""
        if self._started:
            self._ray.shutdown()
        self._started, self._run = False, None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
