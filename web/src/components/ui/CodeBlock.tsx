import { CopyButton } from "./CopyButton";

export function CodeBlock({ code, label }: { code: string; label: string }) {
  return (
    <div className="rounded-lg border border-line bg-sunken">
      <div className="flex items-center justify-between gap-2 border-b border-line py-1 pr-1 pl-4">
        <span className="text-xs font-medium text-soft">{label}</span>
        <CopyButton text={code} what={label} />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a wide block scrolls, which the keyboard must reach too */}
      <pre tabIndex={0} className="overflow-x-auto px-4 py-3 font-mono text-[0.8125rem] leading-6">
        <code>{code}</code>
      </pre>
    </div>
  );
}
