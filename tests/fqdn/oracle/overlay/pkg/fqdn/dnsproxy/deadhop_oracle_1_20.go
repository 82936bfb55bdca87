//go:build cilium1_20

package dnsproxy

import "github.com/cilium/dns"

func extract(message *dns.Msg) (any, error) {
	read := ExtractRequestMsgDetails
	if message.Response {
		read = ExtractResponseMsgDetails
	}
	found, err := read(message)
	if err != nil {
		return nil, err
	}
	return oracleDetails{
		found.QName, found.ResponseIPs, found.TTL, found.CNAMEs, found.RCode, found.AnswerTypes, found.QTypes,
	}, nil
}
