package postgres

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// linePrefix makes the server's lines parseable: SQLSTATE, process, then severity and text.
const linePrefix = "mekong|%e|%p|"

// keptLines is how much of a failing start is kept to say what was wrong.
const keptLines = 20

// serverLog turns the server's output into records. A line passes when it cannot hold a value: whatever is not an error
// of a statement. Errors of statements go to their client, which knows what it may log.
type serverLog struct {
	ctx context.Context //nolint:containedctx // a writer's Write has none; slog wants one
	log *slog.Logger

	mu      sync.Mutex
	partial string
	recent  []string
}

// Write implements io.Writer for exec.Cmd.
func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(l.partial+string(p), "\n")
	l.partial = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		l.line(line)
	}
	return len(p), nil
}

func (l *serverLog) line(line string) {
	state, severity, text, ok := parseLine(line)
	if !ok {
		// Before its logging is set up the server writes plainly, about itself; later only continuation lines of
		// messages, indented by a tab, look like this.
		if line == "" || strings.HasPrefix(line, "\t") {
			return
		}
		severity, text = "LOG", line
	} else if !harmless(state, severity) {
		return
	}
	if l.recent = append(l.recent, severity+": "+text); len(l.recent) > keptLines {
		l.recent = l.recent[1:]
	}
	l.log.Log(l.ctx, levelOf(state, severity), "postgres", "severity", severity, "sqlstate", state, "text", text)
}

func levelOf(state, severity string) slog.Level {
	switch {
	case state == "57P01", state == "57P03": // connections that came while it starts or stops
		return slog.LevelDebug
	case severity == "WARNING", severity == "ERROR":
		return slog.LevelWarn
	case severity == "FATAL", severity == "PANIC":
		return slog.LevelError
	default:
		return slog.LevelDebug
	}
}

// tail returns the newest lines, for diagnosis.
func (l *serverLog) tail() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.recent...)
}

func parseLine(line string) (state, severity, text string, ok bool) {
	rest, ok := strings.CutPrefix(line, "mekong|")
	if !ok {
		return "", "", "", false
	}
	parts := strings.SplitN(rest, "|", 3)
	if len(parts) < 3 {
		return "", "", "", false
	}
	severity, text, ok = strings.Cut(parts[2], ":")
	return parts[0], severity, strings.TrimSpace(text), ok
}

// harmless reports whether a line speaks of the machine. Classes 53 (resources), 57 (operator), 58 (system), F0
// (configuration) and XX (corruption) do, whatever their severity.
func harmless(state, severity string) bool {
	switch severity {
	case "LOG", "PANIC":
		return true
	case "FATAL", "ERROR", "WARNING":
		switch state[:min(2, len(state))] {
		case "53", "57", "58", "F0", "XX":
			return true
		}
		// 55000 at start is "lock file …"; a refused login (28) is worth knowing and names the role only.
		return severity == "FATAL"
	default: // DETAIL, HINT, CONTEXT, STATEMENT, NOTICE
		return false
	}
}

var _ io.Writer = (*serverLog)(nil)
