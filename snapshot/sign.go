package snapshot

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// What is signed, as the first line of the signed text says it.
const (
	signedHead = "head"
	signedBeat = "beat"
	signedNode = "node"
)

// ErrUnsigned says that a data plane's report carries no signature that the
// keys held have made.
var ErrUnsigned = errors.New("not signed with a sync key that is held")

// SignHead completes a head that was put together: it sets Seal and Sig, under the active key.
func (k *Keys) SignHead(h *Head) {
	h.Seal, h.fields = k.Active(), nil
	h.fields = h.encode()
	h.Sig = k.active().sign(signedHead, h.fields)
	h.fields[fieldSig] = h.Sig
}

// VerifyHead checks the signature of a head, under the key that it names. The
// error wraps [ErrCorrupt] when the signature is wrong, and
// [catalog.ErrSealed] when the head names a key that is not held, or none
// although there are keys.
func (k *Keys) VerifyHead(h Head) error {
	err := k.verify(signedHead, h.Seal, h.Fields())
	if err != nil {
		return fmt.Errorf("head %s: %w", h.Position, err)
	}
	return nil
}

// SignBeat completes a beat: it sets Seal and Sig, under the active key.
func (k *Keys) SignBeat(b *Beat) {
	b.Seal, b.fields = k.Active(), nil
	b.fields = b.text()
	b.Sig = k.active().sign(signedBeat, b.fields)
	b.fields[fieldSig] = b.Sig
}

// VerifyBeat checks the signature of a beat, as [Keys.VerifyHead] does.
func (k *Keys) VerifyBeat(b Beat) error {
	err := k.verify(signedBeat, b.Seal, b.text())
	if err != nil {
		return fmt.Errorf("beat at %s: %w", b.Position, err)
	}
	return nil
}

// SignNode completes a report: it sets Sig, under the active key. Data planes
// sign with the key that their head names, see [Keys.Activate].
func (k *Keys) SignNode(n *Node) {
	n.fields = nil
	n.fields = n.text()
	n.Sig = k.active().sign(signedNode, n.fields)
	n.fields[fieldSig] = n.Sig
}

// VerifyNode checks the signature of a report, under any of the keys. Without
// keys every report is good. The error wraps [ErrUnsigned].
func (k *Keys) VerifyNode(n Node) error {
	if k.active() == nil {
		return nil
	}
	for _, key := range k.ring {
		if sameSig(n.Sig, key.sign(signedNode, n.text())) {
			return nil
		}
	}
	return fmt.Errorf("the report of %q: %w", n.ID, ErrUnsigned)
}

func (k *Keys) verify(what, seal string, fields Fields) error {
	keys, err := k.Activate(seal)
	if err != nil {
		return err
	}
	key := keys.active()
	if key == nil {
		return nil
	}
	if err := fields.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if !sameSig(fields[fieldSig], key.sign(what, fields)) {
		return fmt.Errorf("the signature is not that of sync key %q: %w", seal, ErrCorrupt)
	}
	return nil
}

// sign returns the signature of the fields in hex; "" of no key.
func (key *syncKey) sign(what string, fields Fields) string {
	if key == nil {
		return ""
	}
	mac := hmac.New(sha256.New, key.sig)
	mac.Write(fields.signedText(what))
	return hex.EncodeToString(mac.Sum(nil))
}

func sameSig(got, want string) bool { return hmac.Equal([]byte(got), []byte(want)) }
