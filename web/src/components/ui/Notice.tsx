import type { ReactNode } from "react";

const tones = {
  bad: "border-bad/40 bg-bad-soft",
  warn: "border-warn/40 bg-warn-soft",
  plain: "border-line bg-card",
};

type Props = { tone: keyof typeof tones; title: string; text?: string; children?: ReactNode };

export function Notice({ tone, title, text, children }: Props) {
  return (
    <div role={tone === "bad" ? "alert" : "status"} className={`rounded-xl border p-5 ${tones[tone]}`}>
      <p className="font-semibold">{title}</p>
      {text !== undefined && <p className="mt-1 text-sm">{text}</p>}
      {children !== undefined && <div className="mt-4">{children}</div>}
    </div>
  );
}
