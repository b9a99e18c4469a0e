#ifndef _NGX_VIDGEN_TEMPLATE_PART_H_INCLUDED_
#define _NGX_VIDGEN_TEMPLATE_PART_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_template.h"


/* What a template is made of: for the two files that make and fill them. */

typedef enum {
    NGX_VIDGEN_PART_LITERAL = 0,
    NGX_VIDGEN_PART_VALUE,
    NGX_VIDGEN_PART_KEPT,
    NGX_VIDGEN_PART_VARIABLE
} ngx_vidgen_part_e;

typedef struct {
    ngx_vidgen_part_e  kind;
    ngx_uint_t         index;            /* of the value or the variable */
    ngx_str_t          text;             /* literal, or name of what is kept */
    unsigned           slashes:1;        /* stay slashes in a URL */
} ngx_vidgen_part_t;


/* 1: this part goes into a URL as it is */
ngx_uint_t ngx_vidgen_template_raw(ngx_vidgen_template_t *template,
    ngx_uint_t i);


#endif /* _NGX_VIDGEN_TEMPLATE_PART_H_INCLUDED_ */
