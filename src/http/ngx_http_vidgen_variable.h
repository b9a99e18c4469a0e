#ifndef _NGX_HTTP_VIDGEN_VARIABLE_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_VARIABLE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* Adds the $vidgen_* variables; the module's preconfiguration. */
ngx_int_t ngx_http_vidgen_add_variables(ngx_conf_t *cf);


#endif /* _NGX_HTTP_VIDGEN_VARIABLE_H_INCLUDED_ */
