import { type ReactNode, useId } from "react";

type Props = { title: string; text?: string; aside?: ReactNode; children: ReactNode; className?: string };

export function Card({ title, text, aside, children, className = "" }: Props) {
  const id = useId();
  return (
    <section
      aria-labelledby={id}
      className={`min-w-0 rounded-xl border border-line bg-card p-5 shadow-xs sm:p-6 ${className}`}
    >
      <div className="flex flex-wrap items-center justify-between gap-x-4 gap-y-2">
        <h2 id={id} className="text-base font-semibold">
          {title}
        </h2>
        {aside}
      </div>
      {text !== undefined && <p className="mt-1 text-sm text-soft">{text}</p>}
      <div className="mt-4">{children}</div>
    </section>
  );
}
