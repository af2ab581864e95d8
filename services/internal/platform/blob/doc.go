// Package blob opens object storage by URL: file:///srv/archive for a folder, s3://bucket?region=… for S3 and what speaks
// its protocol. Prefixes keep what different contexts store apart.
//
// Non-obvious: a folder gives no checksums of its own and is durable only as far as its file system is; writers of what
// must survive a power cut verify the object after writing.
package blob
