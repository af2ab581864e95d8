import { useCallback, useEffect, useState } from "react";
import { parseReadiness, type Readiness } from "../model";

export type ReadinessState =
  | { kind: "checking" }
  | { kind: "known"; readiness: Readiness; at: Date }
  | { kind: "unreachable"; at: Date };

const timeoutMs = 5000;
const pollMs = { settled: 10_000, waiting: 2000 };

async function fetchReadiness(signal: AbortSignal): Promise<Readiness | null> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  try {
    // 503 carries the same body as 200: which part is not ready.
    const response = await fetch("/readyz", {
      signal: limited,
      headers: { Accept: "application/json" },
      cache: "no-store",
    });
    return parseReadiness(await response.json());
  } catch {
    return null;
  }
}

/** Polls /readyz while the page is visible: often while something is starting, seldom afterwards. */
export function useReadiness(): [ReadinessState, () => void] {
  const [state, setState] = useState<ReadinessState>({ kind: "checking" });
  const [round, setRound] = useState(0);
  const again = useCallback(() => setRound((n) => n + 1), []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new round is the wish to ask again at once
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const ask = async () => {
      window.clearTimeout(timer);
      const readiness = await fetchReadiness(stop.signal);
      if (stop.signal.aborted) return;
      const at = new Date();
      setState(readiness === null ? { kind: "unreachable", at } : { kind: "known", readiness, at });
      timer = window.setTimeout(
        () => {
          if (!document.hidden) void ask();
        },
        readiness?.ready ? pollMs.settled : pollMs.waiting,
      );
    };
    const onVisible = () => {
      if (!document.hidden) void ask();
    };
    void ask();
    document.addEventListener("visibilitychange", onVisible);
    return () => {
      stop.abort();
      window.clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisible);
    };
  }, [round]);

  return [state, again];
}
