package httpapi

import (
	"context"

	"github.com/ez-api/ez-api/catalog"
)

// operators are served with a token where one was made.
func (h *Handler) operators() noun[catalog.Operator, catalog.Operator, operatorWithToken] {
	asStored := func(v catalog.Operator) catalog.Operator { return v }
	return noun[catalog.Operator, catalog.Operator, operatorWithToken]{
		h, h.plane.Operators.Table, "somebody who uses this API", []string{"project"},
		func(_ context.Context, vs []catalog.Operator) []catalog.Operator { return vs }, asStored, withOperatorToken,
	}
}

// A operatorWithToken is an operator in the answers that may hold its token.
type operatorWithToken struct {
	catalog.Operator
	Token string `json:"token,omitempty" readOnly:"true" doc:"The secret by which the operator is known. Only this answer shows it. It is absent when no token was made."`
}

func withOperatorToken(o catalog.Operator) operatorWithToken {
	return operatorWithToken{o, o.Token.Reveal()}
}
