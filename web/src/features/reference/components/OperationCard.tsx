import { type ReactNode, useEffect, useRef, useState } from "react";
import { CodeBlock } from "../../../components/ui/CodeBlock";
import type { MessageKey } from "../../../lib/i18n/en";
import { useI18n } from "../../../lib/i18n/I18nProvider";
import { type ApiDocument, bodySchema, type Entry, type Parameter, sampleCall, typeLabel } from "../model";
import { FieldList } from "./FieldList";

const colours: Record<string, string> = {
  get: "bg-accent-soft text-accent",
  post: "bg-good-soft text-good",
  put: "bg-warn-soft text-warn",
  patch: "bg-warn-soft text-warn",
  delete: "bg-bad-soft text-bad",
};

/** One operation; what is inside is rendered when it is opened for the first time. Its id can be linked to (#…). */
export function OperationCard({ document, entry }: { document: ApiDocument; entry: Entry }) {
  const linked = window.location.hash === `#${entry.id}`;
  const [opened, setOpened] = useState(linked);
  const card = useRef<HTMLDetailsElement>(null);

  // The browser looked for the linked element before it existed.
  useEffect(() => {
    if (linked) card.current?.scrollIntoView();
  }, [linked]);

  return (
    <details
      ref={card}
      id={entry.id}
      open={linked}
      onToggle={(event) => {
        if (event.currentTarget.open) setOpened(true);
      }}
      className="group scroll-mt-28 rounded-xl border border-line bg-card open:shadow-xs"
    >
      <summary className="grid list-none grid-cols-[4.25rem_minmax(0,1fr)_1rem] items-center max-sm:grid-cols-[minmax(0,1fr)_1rem] gap-x-3 gap-y-0.5 rounded-xl px-3 py-2.5 hover:bg-sunken sm:px-4 [&::-webkit-details-marker]:hidden">
        <span
          className={`rounded-md py-1 text-center max-sm:w-17 font-mono text-[0.6875rem] font-semibold uppercase ${colours[entry.method] ?? "bg-sunken"}`}
        >
          {entry.method}
        </span>
        <span className="min-w-0 max-sm:col-span-2 max-sm:row-start-2 lg:grid lg:grid-cols-2 lg:items-baseline lg:gap-6">
          <span className="block font-mono text-[0.8125rem] break-words">
            <BreakablePath path={entry.path} />
          </span>
          <span className="block text-sm text-soft max-lg:mt-0.5">{entry.operation.summary}</span>
        </span>
        <svg
          viewBox="0 0 16 16"
          className="size-4 text-soft motion-safe:transition-transform group-open:rotate-90"
          fill="none"
          stroke="currentColor"
          strokeWidth="1.6"
          aria-hidden="true"
        >
          <path d="m6 3.5 4.5 4.5L6 12.5" strokeLinecap="round" strokeLinejoin="round" />
        </svg>
      </summary>
      {opened && <Details document={document} entry={entry} />}
    </details>
  );
}

/** Long paths break after a slash, never inside a word. */
function BreakablePath({ path }: { path: string }) {
  const parts = path.split("/").slice(1);
  return parts.map((part, index) => (
    <span key={`${parts.slice(0, index).join("/")}/${part}`}>
      /<wbr />
      <span className={part.startsWith("{") ? "text-accent" : undefined}>{part}</span>
    </span>
  ));
}

function Details({ document, entry }: { document: ApiDocument; entry: Entry }) {
  const { t } = useI18n();
  const { operation } = entry;
  const body = bodySchema(operation.requestBody);
  const answer = bodySchema(operation.responses?.["200"]);
  const failure = operation.responses?.default;
  const failureBody = bodySchema(failure);
  return (
    <div className="border-t border-line px-4 pt-4 pb-5 sm:px-5">
      {operation.description !== undefined && <p className="max-w-3xl text-sm">{operation.description}</p>}
      <div className="mt-4 grid grid-cols-[minmax(0,1fr)] items-start gap-6 lg:grid-cols-2">
        <div className="grid min-w-0 grid-cols-[minmax(0,1fr)] gap-6">
          {operation.parameters !== undefined && operation.parameters.length > 0 && (
            <Part title={t("reference.parameters")}>
              <ParameterList parameters={operation.parameters} />
            </Part>
          )}
          {body !== undefined && (
            <Part title={t("reference.body")}>
              <FieldList document={document} schema={body} />
            </Part>
          )}
          {answer !== undefined && (
            <Part title={t("reference.response")}>
              <FieldList document={document} schema={answer} />
            </Part>
          )}
          {failureBody !== undefined && (
            <Part title={t("reference.failure")}>
              <FieldList document={document} schema={failureBody} />
            </Part>
          )}
        </div>
        <div className="min-w-0 lg:sticky lg:top-20">
          <CodeBlock label={t("reference.example")} code={sampleCall(document, entry, window.location.origin)} />
        </div>
      </div>
    </div>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="min-w-0">
      <h3 className="text-xs font-semibold tracking-wide text-soft uppercase">{title}</h3>
      {children}
    </section>
  );
}

const places: Record<string, MessageKey> = {
  path: "reference.in.path",
  query: "reference.in.query",
  header: "reference.in.header",
};

function ParameterList({ parameters }: { parameters: readonly Parameter[] }) {
  const { t } = useI18n();
  return (
    <ul className="mt-1 divide-y divide-line text-sm">
      {parameters.map((parameter) => {
        const place = places[parameter.in];
        return (
          <li key={`${parameter.in} ${parameter.name}`} className="py-2">
            <span className="font-mono text-[0.8125rem] font-medium break-all">{parameter.name}</span>{" "}
            <span className="text-soft">
              {typeLabel(parameter.schema ?? {})}
              {place !== undefined && `, ${t(place)}`}
            </span>
            {parameter.description !== undefined && <p className="text-soft">{parameter.description}</p>}
          </li>
        );
      })}
    </ul>
  );
}
