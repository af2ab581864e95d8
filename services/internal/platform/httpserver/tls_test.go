package httpserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/httpserver"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

// selfSigned writes a certificate for 127.0.0.1 and returns its files and the pool that trusts it.
func selfSigned(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certPEM))
	return certFile, keyFile, pool
}

func TestTLSByFiles(t *testing.T) {
	t.Parallel()
	cfg := httpserver.DefaultConfig()
	cfg.Listen = testkit.FreeAddress(t)
	var pool *x509.CertPool
	cfg.CertFile, cfg.KeyFile, pool = selfSigned(t)
	s := httpserver.New("http", "MEKONG_HTTP__LISTEN", cfg, slog.New(slog.DiscardHandler), http.HandlerFunc(httpserver.Healthz), nil)
	ctx, cancel := context.WithCancel(t.Context())
	started, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Runner().Run(ctx, func() { close(started) }) }()
	<-started

	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	client := &http.Client{Transport: transport}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+cfg.Listen+"/", nil)
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "HTTP/2.0", resp.Proto)
	transport.CloseIdleConnections()
	cancel()
	require.NoError(t, <-done)
}

func TestTLSSettingsThatContradict(t *testing.T) {
	t.Parallel()
	cfg := httpserver.DefaultConfig()
	cfg.CertFile = "cert.pem"
	require.Equal(t, "tls_incomplete", errs.CodeOf(cfg.Validate()))
	cfg.KeyFile, cfg.ACMEHosts = "key.pem", []string{"shop.example"}
	require.Equal(t, "tls_twice", errs.CodeOf(cfg.Validate()))
}
