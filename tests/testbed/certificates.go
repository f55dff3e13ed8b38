package testbed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority issues certificates for a test.
type Authority struct {
	Dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	t    T
}

// Pair is a certificate and its key, in PEM files.
type Pair struct{ Cert, Key string }

// NewAuthority makes an authority with a directory of its own; its certificate is ca.pem there.
func NewAuthority(t T, dir string) *Authority {
	t.Helper()
	a := &Authority{Dir: dir, t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = a.sign(template)
	a.write("ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

// CA is the authority's certificate, in PEM.
func (a *Authority) CA() string { return filepath.Join(a.Dir, "ca.pem") }

// Issue makes a certificate for names and addresses, for servers and clients alike, in files NAME.pem and NAME.key.
func (a *Authority) Issue(name string, hosts ...string) Pair {
	a.t.Helper()
	return a.issueAs(name, "", name, hosts...)
}

// Config trusts the authority, for a Go client; pairs are its own certificates.
func (a *Authority) Config(pairs ...Pair) *tls.Config {
	conf := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	conf.RootCAs.AddCert(a.cert)
	for _, p := range pairs {
		pair, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			a.t.Fatalf("%v", err)
		}
		conf.Certificates = append(conf.Certificates, pair)
	}
	return conf
}

// TrustStorePassword opens the store that TrustStore makes.
const TrustStorePassword = "changeit"

// TrustStore is a Java trust store that holds the authority.
func (a *Authority) TrustStore() string {
	a.t.Helper()
	path := filepath.Join(a.Dir, "trust.p12")
	keytool := filepath.Join(filepath.Dir(Java(a.t)), "keytool")
	if err := run(keytool, "-importcert", "-noprompt", "-alias", "tests", "-file", a.CA(), "-keystore", path, "-storetype", "PKCS12", "-storepass", TrustStorePassword); err != nil {
		a.t.Fatalf("%v", err)
	}
	return path
}

// sign makes a key and a certificate for it; the authority's own is signed by itself.
func (a *Authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	return cert, key
}

func (a *Authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.Dir, name)
	if err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatalf("%v", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		a.t.Fatalf("%v", err)
	}
	return path
}

// issueAs is Issue for somebody whom Kubernetes knows by a name and a group; no group is none.
func (a *Authority) issueAs(file, group, name string, hosts ...string) Pair {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if group != "" {
		template.Subject.Organization = []string{group}
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	cert, key := a.sign(template)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	return Pair{Cert: a.write(file+".pem", "CERTIFICATE", cert.Raw), Key: a.write(file+".key", "PRIVATE KEY", der)}
}
