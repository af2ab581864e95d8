import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { I18nProvider } from "../lib/i18n/I18nProvider";
import { App } from "./App";
import { CrashBoundary } from "./CrashBoundary";
import "./styles.css";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no element with the id root");

createRoot(root).render(
  <StrictMode>
    <I18nProvider>
      <CrashBoundary>
        <App />
      </CrashBoundary>
    </I18nProvider>
  </StrictMode>,
);
