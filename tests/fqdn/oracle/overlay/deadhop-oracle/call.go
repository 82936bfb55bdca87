// The oracle calls Cilium's own functions. One line of standard input is a JSON array of calls, one line of standard
// output the array of their results; objects live for one line.
//
// A call is {"call": "fqdn.DNSCache.lookupByTime", "with": [...], "as": "name"}. A name with a dollar sign stands for an
// object made by an earlier call of the line, both as an argument and, before a method's name, as its receiver. What
// Go types an argument has is read off the function, because they changed between versions: an address is net.IP,
// netip.Addr or string, a set of names is a slice or a map.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"time"
)

type call struct {
	Call string            `json:"call"`
	With []json.RawMessage `json:"with"`
	As   string            `json:"as"`
}

var (
	timeType   = reflect.TypeOf(time.Time{})
	addrType   = reflect.TypeOf(netip.Addr{})
	ipType     = reflect.TypeOf(net.IP{})
	regexpType = reflect.TypeOf(&regexp.Regexp{})
	errorType  = reflect.TypeOf((*error)(nil)).Elem()
)

type session map[string]reflect.Value

func (s session) run(c call) (result any) {
	defer func() {
		if trouble := recover(); trouble != nil {
			result = map[string]any{"panic": fmt.Sprint(trouble)}
		}
	}()
	function, err := s.find(c.Call)
	if err != nil {
		return map[string]any{"unknown": err.Error()}
	}
	in := []reflect.Value{}
	kind := function.Type()
	for at, raw := range c.With {
		var want reflect.Type
		switch {
		case kind.IsVariadic() && at >= kind.NumIn()-1:
			want = kind.In(kind.NumIn() - 1).Elem()
		case at < kind.NumIn():
			want = kind.In(at)
		default:
			return map[string]any{"unknown": "too many arguments for " + c.Call}
		}
		value, err := s.argument(raw, want)
		if err != nil {
			return map[string]any{"bad": err.Error()}
		}
		in = append(in, value)
	}
	for at := len(in); at < kind.NumIn() && !(kind.IsVariadic() && at == kind.NumIn()-1); at++ {
		in = append(in, reflect.Zero(kind.In(at)))
	}
	out := function.Call(in)
	results := []any{}
	for _, value := range out {
		if value.Type() == errorType {
			if !value.IsNil() {
				return map[string]any{"error": value.Interface().(error).Error()}
			}
			continue
		}
		if c.As != "" {
			s[c.As] = value
			return nil
		}
		results = append(results, plain(value))
	}
	if len(results) == 1 {
		return results[0]
	}
	return results
}

func (s session) find(name string) (reflect.Value, error) {
	if strings.HasPrefix(name, "$") {
		object, method, _ := strings.Cut(name[1:], ".")
		receiver, known := s[object]
		if !known {
			return reflect.Value{}, fmt.Errorf("no object %s", object)
		}
		found := receiver.MethodByName(method)
		if !found.IsValid() {
			return reflect.Value{}, fmt.Errorf("no method %s", name)
		}
		return found, nil
	}
	function, known := functions[name]
	if !known {
		return reflect.Value{}, fmt.Errorf("no function %s", name)
	}
	return reflect.ValueOf(function), nil
}

// moment reads seconds since the Unix epoch; null is Go's zero time.
func moment(raw json.RawMessage) (time.Time, error) {
	var seconds *float64
	if err := json.Unmarshal(raw, &seconds); err != nil || seconds == nil {
		return time.Time{}, err
	}
	return time.UnixMicro(int64(*seconds * 1e6)).UTC(), nil
}

func (s session) argument(raw json.RawMessage, want reflect.Type) (reflect.Value, error) {
	text := ""
	isText := json.Unmarshal(raw, &text) == nil && string(raw) != "null"
	if isText && strings.HasPrefix(text, "$") {
		if value, known := s[text[1:]]; known {
			return value, nil
		}
	}
	switch want {
	case timeType:
		at, err := moment(raw)
		return reflect.ValueOf(at), err
	case addrType:
		addr, err := netip.ParseAddr(text)
		return reflect.ValueOf(addr), err
	case ipType:
		return reflect.ValueOf(net.ParseIP(text)), nil
	case regexpType:
		if !isText {
			return reflect.Zero(want), nil
		}
		compiled, err := regexp.Compile(text)
		return reflect.ValueOf(compiled), err
	}
	if string(raw) == "null" {
		return reflect.Zero(want), nil
	}
	if want.Kind() == reflect.Slice && want.Elem().Kind() != reflect.Uint8 {
		items := []json.RawMessage{}
		if err := json.Unmarshal(raw, &items); err != nil {
			return reflect.Value{}, err
		}
		made := reflect.MakeSlice(want, 0, len(items))
		for _, item := range items {
			value, err := s.argument(item, want.Elem())
			if err != nil {
				return reflect.Value{}, err
			}
			made = reflect.Append(made, value)
		}
		return made, nil
	}
	if want.Kind() == reflect.Func { // an address matcher, given as a prefix
		prefix, err := netip.ParsePrefix(text)
		return reflect.MakeFunc(want, func(in []reflect.Value) []reflect.Value {
			addr, _ := netip.ParseAddr(fmt.Sprint(in[0].Interface()))
			return []reflect.Value{reflect.ValueOf(prefix.Contains(addr))}
		}), err
	}
	made := reflect.New(want)
	if isText && want.Kind() == reflect.Slice {
		return reflect.ValueOf([]byte(text)), nil
	}
	err := json.Unmarshal(raw, made.Interface())
	return made.Elem(), err
}

// plain turns a result into JSON values: times to seconds, sets to sorted lists, addresses and expressions to text.
func plain(value reflect.Value) any {
	if !value.IsValid() {
		return nil
	}
	if value.CanInterface() {
		switch held := value.Interface().(type) {
		case time.Time:
			if held.IsZero() {
				return nil
			}
			return float64(held.UnixMicro()) / 1e6
		case net.IP:
			return held.String()
		case netip.Addr:
			return held.String()
		case *regexp.Regexp:
			if held == nil {
				return nil
			}
			return held.String()
		case []byte:
			return string(held)
		case error:
			return held.Error()
		}
	}
	switch value.Kind() {
	case reflect.Pointer, reflect.Interface:
		if value.IsNil() {
			return nil
		}
		return plain(value.Elem())
	case reflect.Slice, reflect.Array:
		list := []any{}
		for at := 0; at < value.Len(); at++ {
			list = append(list, plain(value.Index(at)))
		}
		return list
	case reflect.Map:
		if element := value.Type().Elem(); element.Kind() == reflect.Struct && element.NumField() == 0 {
			list := []string{}
			for _, key := range value.MapKeys() {
				list = append(list, fmt.Sprint(plain(key)))
			}
			sort.Strings(list)
			return list
		}
		found := map[string]any{}
		for _, key := range value.MapKeys() {
			found[fmt.Sprint(plain(key))] = plain(value.MapIndex(key))
		}
		return found
	case reflect.Struct:
		found := map[string]any{}
		for at := 0; at < value.NumField(); at++ {
			if field := value.Type().Field(at); field.IsExported() {
				found[field.Name] = plain(value.Field(at))
			}
		}
		return found
	case reflect.String:
		return value.String()
	case reflect.Bool:
		return value.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return value.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return value.Uint()
	}
	return fmt.Sprint(value)
}
