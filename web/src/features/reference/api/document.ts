import { useCallback, useEffect, useState } from "react";
import { type ApiDocument, isApiDocument } from "../model";

export const documentUrl = "/api/openapi.json";

export type DocumentState = { kind: "loading" } | { kind: "loaded"; document: ApiDocument } | { kind: "failed" };

export function useDocument(): [DocumentState, () => void] {
  const [state, setState] = useState<DocumentState>({ kind: "loading" });
  const [round, setRound] = useState(0);
  const again = useCallback(() => setRound((n) => n + 1), []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new round is the wish to load again
  useEffect(() => {
    const stop = new AbortController();
    setState({ kind: "loading" });
    const load = async () => {
      try {
        const response = await fetch(documentUrl, { signal: stop.signal });
        const body: unknown = await response.json();
        setState(response.ok && isApiDocument(body) ? { kind: "loaded", document: body } : { kind: "failed" });
      } catch {
        if (!stop.signal.aborted) setState({ kind: "failed" });
      }
    };
    void load();
    return () => stop.abort();
  }, [round]);

  return [state, again];
}
