package blob

import (
	"context"
	"net/url"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Bucket is where objects are kept; see gocloud.dev/blob for its methods.
type Bucket = blob.Bucket

// Open returns the bucket of address. Folders are made when they are missing. Close the bucket when done.
func Open(ctx context.Context, address string) (*Bucket, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return nil, errs.New(errs.Invalid, "blob_url_invalid", "The storage address must be a URL: file:///folder or s3://bucket?region=name")
	}
	mux := new(blob.URLMux)
	mux.RegisterBucket(fileblob.Scheme, &fileblob.URLOpener{Options: fileblob.Options{CreateDir: true, Metadata: fileblob.MetadataDontWrite}})
	mux.RegisterBucket(s3blob.Scheme, &s3blob.URLOpener{})
	if !mux.ValidBucketScheme(u.Scheme) {
		return nil, errs.New(errs.Invalid, "blob_scheme_unknown",
			"The storage address begins with "+u.Scheme+"://, known are: "+strings.Join(mux.BucketSchemes(), ", "))
	}
	bucket, err := mux.OpenBucketURL(ctx, u)
	if err != nil {
		return nil, Classify(err)
	}
	return bucket, nil
}

// Classify gives an error of a bucket its kind.
func Classify(err error) error {
	if err == nil {
		return nil
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return errs.Wrap(err, errs.NotFound, "object_not_found", "There is no such object in the storage.")
	case gcerrors.AlreadyExists, gcerrors.FailedPrecondition:
		return errs.Wrap(err, errs.Conflict, "object_exists", "The object is there already, or was changed meanwhile.")
	case gcerrors.InvalidArgument:
		return errs.Wrap(err, errs.Invalid, "blob_request_invalid", "The storage address or the name of an object cannot be used.")
	case gcerrors.PermissionDenied:
		return errs.Wrap(err, errs.Forbidden, "blob_forbidden", "The storage refuses these credentials; check its address and rights.")
	default:
		return errs.Wrap(err, errs.Unavailable, "blob_unavailable", "The storage does not answer; check its address.")
	}
}
