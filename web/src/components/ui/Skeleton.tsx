/** Grey lines in place of what is being loaded; `label` is what a screen reader hears. */
export function Skeleton({ lines, label }: { lines: number; label: string }) {
  return (
    <div role="status" aria-label={label} className="motion-safe:animate-pulse space-y-3">
      {Array.from({ length: lines }, (_, line) => `line-${line}`).map((key, line) => (
        <div key={key} className={`h-4 rounded bg-line ${line % 3 === 2 ? "w-1/2" : "w-full"}`} />
      ))}
    </div>
  );
}
