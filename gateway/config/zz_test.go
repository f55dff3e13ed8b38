package config
import ("testing";"path/filepath";"fmt")
func TestZZ(t *testing.T){ fs,_:=filepath.Glob("testdata/bad/*.yaml"); for _,f:=range fs { c,_,err:=Load(f,nil); if err==nil {err=c.Validate()}; fmt.Println("##",f); fmt.Println(err)}}
