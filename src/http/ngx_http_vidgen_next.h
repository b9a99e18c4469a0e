#ifndef _NGX_HTTP_VIDGEN_NEXT_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_NEXT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_operation.h"


/*
 * After an attempt that was not accepted: moves on to the next candidate, at
 * once or in a later round after a pause, or closes the generation.
 */
void ngx_http_vidgen_next_decide(ngx_http_vidgen_operation_t *op);


#endif /* _NGX_HTTP_VIDGEN_NEXT_H_INCLUDED_ */
