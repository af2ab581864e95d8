// Command bench measures bin/mekong against yardsticks in the same run: `make bench`, see bench/README.md for what each
// number means.
//
// It drives the built binary through its public doors only and imports no context. The yardsticks are processes of their
// own (this binary, started again): the embedded broker, a minimal handler on that broker, a bare handler. Both sides of
// a comparison take turns, and medians over rounds are reported.
//
// Non-obvious:
//   - Generator and server share the machine, so the generator writes prepared requests over raw connections: with
//     net/http's client most of the time would be its own.
//   - Beside each round stands how much of the machine other programs took; noisy rounds are repeated and the quietest
//     ones count.
//   - Door and minimal handler use the very same broker process. The door answers once its spool is synced and forwards
//     behind; how long the broker still lagged when the load ended is reported too.
package main
