package kube

import (
	"errors"
	"fmt"

	"github.com/sluicedata/sluice/engines"
)

// Block is the first of a driver's ports. They lie behind one another.
type Block int

// The ports of a block.
const (
	rpcPort = iota
	blockManagerPort
	connectPort
	uiPort
	shufflePort // where executors ask the driver's shuffle client, if there is a shuffle service
	BlockSize
)

// podPorts are a driver's ports where it has an address of its own, and nobody to share them with: the ones that Spark's
// own tools choose, where there are any.
var podPorts = [BlockSize]int{7078, 7079, 15002, 4040, 7080}

// at is one of the ports of a block; without a block it is a driver's on the pod network.
func (b Block) at(i int) int {
	if b == 0 {
		return podPorts[i]
	}
	return int(b) + i
}

// freeBlock chooses a block that nobody is known to have. It begins where the tag says, so that two gateways that know
// nothing of each other's engines yet seldom choose the same.
func freeBlock(ports engines.Ports, tag engines.Tag, taken func(Block) bool) (Block, error) {
	n := ports.Len() / BlockSize
	if n == 0 {
		return 0, errors.New("the range of ports has no room for a driver, which needs five")
	}
	begin := tag.Place(n)
	for i := range n {
		b := Block(ports.First + (begin+i)%n*BlockSize)
		if !taken(b) {
			return b, nil
		}
	}
	return 0, fmt.Errorf("all %d blocks of ports %d-%d are taken by drivers", n, ports.First, ports.Last)
}
