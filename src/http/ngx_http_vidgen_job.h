#ifndef _NGX_HTTP_VIDGEN_JOB_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_JOB_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* vidgen_job: GET .../<job id>, the job as JSON */
ngx_int_t ngx_http_vidgen_job_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_VIDGEN_JOB_H_INCLUDED_ */
