// Package jsonscan walks a JSON text once, without building a tree: it checks the grammar of RFC 8259, hands out values
// as the very bytes that were sent, and lets its caller step into the objects and arrays that matter.
//
// Flaws are what a caller may forgive or refuse value by value, since the rest of the text can still be read: invalid
// UTF-8, nesting beyond the given depth. Everything else that is wrong ends the walk with an *Error.
//
// Non-obvious: a name that occurs twice in an object is handed out twice; callers let the last one win, as JavaScript
// does. An escape of half a surrogate pair is allowed (JSON.stringify writes such) and reads as U+FFFD.
package jsonscan
