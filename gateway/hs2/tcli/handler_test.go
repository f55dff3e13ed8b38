package tcli

import "context"

// polite answers every call with an empty success.
type polite struct{}

var success = &TStatus{StatusCode: TStatusCode_SUCCESS_STATUS}

func (polite) OpenSession(context.Context, *TOpenSessionReq) (*TOpenSessionResp, error) {
	return &TOpenSessionResp{Status: success}, nil
}

func (polite) CloseSession(context.Context, *TCloseSessionReq) (*TCloseSessionResp, error) {
	return &TCloseSessionResp{Status: success}, nil
}

func (polite) GetInfo(context.Context, *TGetInfoReq) (*TGetInfoResp, error) {
	return &TGetInfoResp{Status: success, InfoValue: &TGetInfoValue{LenValue: new(int64)}}, nil
}

func (polite) ExecuteStatement(context.Context, *TExecuteStatementReq) (*TExecuteStatementResp, error) {
	return &TExecuteStatementResp{Status: success}, nil
}

func (polite) GetTypeInfo(context.Context, *TGetTypeInfoReq) (*TGetTypeInfoResp, error) {
	return &TGetTypeInfoResp{Status: success}, nil
}

func (polite) GetCatalogs(context.Context, *TGetCatalogsReq) (*TGetCatalogsResp, error) {
	return &TGetCatalogsResp{Status: success}, nil
}

func (polite) GetSchemas(context.Context, *TGetSchemasReq) (*TGetSchemasResp, error) {
	return &TGetSchemasResp{Status: success}, nil
}

func (polite) GetTables(context.Context, *TGetTablesReq) (*TGetTablesResp, error) {
	return &TGetTablesResp{Status: success}, nil
}

func (polite) GetTableTypes(context.Context, *TGetTableTypesReq) (*TGetTableTypesResp, error) {
	return &TGetTableTypesResp{Status: success}, nil
}

func (polite) GetColumns(context.Context, *TGetColumnsReq) (*TGetColumnsResp, error) {
	return &TGetColumnsResp{Status: success}, nil
}

func (polite) GetFunctions(context.Context, *TGetFunctionsReq) (*TGetFunctionsResp, error) {
	return &TGetFunctionsResp{Status: success}, nil
}

func (polite) GetPrimaryKeys(context.Context, *TGetPrimaryKeysReq) (*TGetPrimaryKeysResp, error) {
	return &TGetPrimaryKeysResp{Status: success}, nil
}

func (polite) GetCrossReference(context.Context, *TGetCrossReferenceReq) (*TGetCrossReferenceResp, error) {
	return &TGetCrossReferenceResp{Status: success}, nil
}

func (polite) GetOperationStatus(context.Context, *TGetOperationStatusReq) (*TGetOperationStatusResp, error) {
	return &TGetOperationStatusResp{Status: success}, nil
}

func (polite) CancelOperation(context.Context, *TCancelOperationReq) (*TCancelOperationResp, error) {
	return &TCancelOperationResp{Status: success}, nil
}

func (polite) CloseOperation(context.Context, *TCloseOperationReq) (*TCloseOperationResp, error) {
	return &TCloseOperationResp{Status: success}, nil
}

func (polite) GetResultSetMetadata(context.Context, *TGetResultSetMetadataReq) (*TGetResultSetMetadataResp, error) {
	return &TGetResultSetMetadataResp{Status: success}, nil
}

func (polite) FetchResults(context.Context, *TFetchResultsReq) (*TFetchResultsResp, error) {
	panic("the generated path must not be taken")
}

func (polite) FetchEncoded(context.Context, *TFetchResultsReq) (*FetchReply, error) {
	return &FetchReply{Status: success}, nil
}

func (polite) GetDelegationToken(context.Context, *TGetDelegationTokenReq) (*TGetDelegationTokenResp, error) {
	return &TGetDelegationTokenResp{Status: success}, nil
}

func (polite) CancelDelegationToken(context.Context, *TCancelDelegationTokenReq) (*TCancelDelegationTokenResp, error) {
	return &TCancelDelegationTokenResp{Status: success}, nil
}

func (polite) RenewDelegationToken(context.Context, *TRenewDelegationTokenReq) (*TRenewDelegationTokenResp, error) {
	return &TRenewDelegationTokenResp{Status: success}, nil
}

func (polite) GetQueryId(context.Context, *TGetQueryIdReq) (*TGetQueryIdResp, error) {
	return &TGetQueryIdResp{}, nil
}

func (polite) SetClientInfo(context.Context, *TSetClientInfoReq) (*TSetClientInfoResp, error) {
	return &TSetClientInfoResp{Status: success}, nil
}
