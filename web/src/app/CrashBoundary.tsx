import { Component, type ReactNode } from "react";
import { Button } from "../components/ui/Button";
import { Notice } from "../components/ui/Notice";
import { useI18n } from "../lib/i18n/I18nProvider";

/** Shows a way out when a page throws; React itself writes the error to the console. */
export class CrashBoundary extends Component<{ children: ReactNode }, { crashed: boolean }> {
  override state = { crashed: false };

  static getDerivedStateFromError() {
    return { crashed: true };
  }

  override render() {
    return this.state.crashed ? <CrashPage /> : this.props.children;
  }
}

function CrashPage() {
  const { t } = useI18n();
  return (
    <main className="mx-auto max-w-2xl p-6">
      <Notice tone="bad" title={t("app.crash.title")} text={t("app.crash.text")}>
        <Button onClick={() => window.location.reload()}>{t("app.reload")}</Button>
      </Notice>
    </main>
  );
}
