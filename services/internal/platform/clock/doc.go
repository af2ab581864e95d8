// Package clock lets code ask for the time and wait for it, so that tests can move time by hand.
package clock
