import { Card } from "../../../components/ui/Card";
import { CodeBlock } from "../../../components/ui/CodeBlock";
import { CopyButton } from "../../../components/ui/CopyButton";
import { Skeleton } from "../../../components/ui/Skeleton";
import { useI18n } from "../../../lib/i18n/I18nProvider";
import { useReadiness } from "../api/readiness";
import { type Address, sampleEvent } from "../model";
import { StatusCard } from "./StatusCard";

export function StartPage() {
  const { t } = useI18n();
  const [state, again] = useReadiness();
  // A server that is open to others does not name its engines' addresses; the card is left out then.
  const addresses = state.kind === "known" ? state.readiness.addresses : [];
  return (
    <>
      <h1 className="text-3xl font-semibold tracking-tight text-balance sm:text-4xl">{t("start.title")}</h1>
      <p className="mt-3 max-w-2xl text-pretty text-soft sm:text-lg">{t("start.lead")}</p>
      <div className="mt-8 grid grid-cols-[minmax(0,1fr)] items-start gap-5 lg:grid-cols-[minmax(0,2fr)_minmax(0,3fr)]">
        <StatusCard state={state} onRetry={again} />
        <div className="grid min-w-0 grid-cols-[minmax(0,1fr)] gap-5">
          {state.kind === "checking" && (
            <Card title={t("start.addresses")} text={t("start.addresses.text")}>
              <Skeleton lines={4} label={t("start.status.checking")} />
            </Card>
          )}
          {addresses.length > 0 && (
            <Card title={t("start.addresses")} text={t("start.addresses.text")}>
              <AddressTable addresses={addresses} />
            </Card>
          )}
          <Card title={t("start.send")} text={t("start.send.text")}>
            <CodeBlock label="curl" code={sampleEvent(window.location.origin)} />
          </Card>
          <Card title={t("nav.reference")} text={t("start.reference")}>
            <a
              href="/api/docs"
              className="inline-flex min-h-10 items-center rounded-lg bg-accent px-4 text-sm font-semibold text-white hover:opacity-90 dark:text-page"
            >
              {t("start.reference.link")}
            </a>
          </Card>
        </div>
      </div>
    </>
  );
}

function AddressTable({ addresses }: { addresses: readonly Address[] }) {
  return (
    <dl className="divide-y divide-line">
      {addresses.map(({ name, address }) => (
        <div key={`${name} ${address}`} className="flex min-h-11 items-center justify-between gap-x-3 py-1">
          <div className="min-w-0 flex-1 sm:grid sm:grid-cols-[8.5rem_minmax(0,1fr)] sm:items-center sm:gap-3">
            <dt className="text-sm text-soft">{name}</dt>
            <dd className="font-mono text-sm break-all">{address}</dd>
          </div>
          <CopyButton text={address} what={name} />
        </div>
      ))}
    </dl>
  );
}
