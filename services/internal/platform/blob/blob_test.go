package blob_test

import (
	"net/url"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"

	platform "github.com/mekong-cdp/mekong/services/internal/platform/blob"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

func TestAFolderKeepsObjects(t *testing.T) {
	t.Parallel()
	u := url.URL{Scheme: "file", Path: filepath.Join(t.TempDir(), "new", "archive")}
	bucket, err := platform.Open(t.Context(), u.String())
	require.NoError(t, err)
	prefixed := blob.PrefixedBucket(bucket, "warehouse/")
	require.NoError(t, prefixed.WriteAll(t.Context(), "a/b.gz", []byte("rows"), nil))
	require.NoError(t, prefixed.Close())

	bucket, err = platform.Open(t.Context(), u.String())
	require.NoError(t, err)
	data, err := bucket.ReadAll(t.Context(), "warehouse/a/b.gz")
	require.NoError(t, err)
	require.Equal(t, "rows", string(data))

	_, err = bucket.ReadAll(t.Context(), "nothing")
	require.Equal(t, errs.NotFound, errs.KindOf(platform.Classify(err)))
	err = bucket.WriteAll(t.Context(), "warehouse/a/b.gz", []byte("other"), &blob.WriterOptions{IfNotExist: true})
	require.Equal(t, errs.Conflict, errs.KindOf(platform.Classify(err)))
	require.NoError(t, bucket.Close())
}

func TestAddressesThatCannotBe(t *testing.T) {
	t.Parallel()
	for address, code := range map[string]string{
		"":                 "blob_url_invalid",
		"/srv/archive":     "blob_url_invalid",
		"ftp://host/place": "blob_scheme_unknown",
	} {
		_, err := platform.Open(t.Context(), address)
		require.Equal(t, code, errs.CodeOf(err), address)
		require.Equal(t, errs.Invalid, errs.KindOf(err), address)
	}
	require.NoError(t, platform.Classify(nil))
}
