#!/usr/bin/perl

# What vidgen_verify and vidgen_dry_run refuse when the configuration loads,
# and on which line.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Nginx;

my $around = <<'EOT';
%%GLOBALS%%
events { }
http {
    %%HTTP%%

    vidgen_monitor  interval=1h;
    %%DIRECTIVES%%
    vidgen_provider p {
        webhook {
            signature hmac-sha256 header=X-Signature;
            secret env:HOOK_SECRET;
            job_id /id;
            status /status;
        }
    }
    vidgen_provider polled {
        poll {
            url        https://example.com/$vidgen_provider_job_id;
            status     /status;
            video_url  /url;
        }
    }
    server {
        listen 127.0.0.1:%%PORT%%;
        %%SERVER%%
    }
}
EOT

my $database = 'vidgen_database host=127.0.0.1;';
my $pass = 'proxy_pass http://127.0.0.1:1;';

my @bad = (
    ['', "location / { vidgen_verify q;\n$pass }",
        qr/unknown provider "q"/, 0],
    ['', "\n\nlocation / {\nvidgen_verify q;\n$pass }",
        qr/unknown provider "q"/, 3],
    ['', 'location / { vidgen_verify; }', qr/invalid number of arguments/, 0],
    ['', 'location / { vidgen_verify p p; }',
        qr/invalid number of arguments/, 0],
    ['', "location / { vidgen_verify p;\nvidgen_verify p; }",
        qr/"vidgen_verify" directive is duplicate/, 1],
    ['', "vidgen_verify p;", qr/"vidgen_verify" directive is not allowed/, 0],
    ['', 'location / { if ($arg_a) { vidgen_verify p; } }',
        qr/"vidgen_verify" directive is not allowed/, 0],
    [$database, "location / { vidgen_webhook p;\nvidgen_verify p; }",
        qr/"vidgen_verify" directive conflicts/, 1],
    [$database, "location / { vidgen_verify p;\nvidgen_webhook p; }",
        qr/"vidgen_webhook" directive conflicts/, 1],
    ['', 'location / { vidgen_webhook p; }',
        qr/"vidgen_webhook" needs "vidgen_database"/, 0],
    [$database, "location / { vidgen_webhook p;\n\nvidgen_dry_run on; }",
        qr/"vidgen_dry_run" is of "vidgen_verify" only/, 2],
    [$database, "vidgen_dry_run on;\nlocation / { vidgen_webhook p; }",
        qr/"vidgen_dry_run" is of "vidgen_verify" only/, 0],
    ["$database vidgen_dry_run on;", 'location / { vidgen_webhook p; }',
        qr/"vidgen_dry_run" is of "vidgen_verify" only/, 'http'],
    ['', 'vidgen_dry_run maybe;', qr/"vidgen_dry_run" directive|"maybe"/, 0],
    ['', "vidgen_dry_run on;\nvidgen_dry_run on;",
        qr/"vidgen_dry_run" directive is duplicate/, 1],
);

my @good = (
    ['', "location / { vidgen_verify p; $pass }", qr/^$/],
    ['', "location / { vidgen_verify off; $pass }", qr/^$/],
    ['', "location / { vidgen_verify \$arg_p; $pass }", qr/^$/],
    ['', "location / { vidgen_verify p; vidgen_dry_run on; $pass }", qr/^$/],
    ['', "location / { vidgen_verify polled; $pass }",
        qr/\[warn\] .* provider "polled" has no "webhook"/],
    ["$database vidgen_dry_run on;",
        'location / { vidgen_webhook p; vidgen_dry_run off; }', qr/^$/],
    ["$database vidgen_dry_run on;", "location / { vidgen_verify p; $pass }",
        qr/^$/],
    [$database, "location / { vidgen_verify p; $pass
        location /a { vidgen_webhook p; } }", qr/^$/],
);

plan tests => 2 * @bad + 2 * @good;

for my $case (@bad) {
    my ($http, $server, $message, $line) = @$case;
    my ($nginx, $passed, $said) = check($http, $server);

    my $name = join ' ', "$http $server" =~ /\S+/g;
    ok(!$passed, "refused: $name");
    my $number = line($nginx, $line);
    like($said, qr/\[emerg\] .* $message .* :$number$/mx, "on line $number");
}

for my $case (@good) {
    my ($http, $server, $message) = @$case;
    my (undef, $passed, $said) = check($http, $server);

    my $name = join ' ', "$http $server" =~ /\S+/g;
    ok($passed, "accepted: $name") or diag($said);
    my $rest = join '', grep { !/syntax is ok|test is successful/ }
        split /^/, $said;
    like($rest, $message, 'and said about it what there is to say');
}


sub check {
    my ($http, $server) = @_;
    my $nginx = VidgenTest::Nginx->new(config => $around,
        vars => { DIRECTIVES => $http, SERVER => $server },
        env => { HOOK_SECRET => 'not-to-be-seen' });
    my ($passed, $said) = $nginx->config_test;
    $nginx->allow(qr/\[emerg\]/);
    return ($nginx, $passed, $said);
}

# the number of the line of the configuration that is $more after the first
# of the server's own, or the one of the http block
sub line {
    my ($nginx, $more) = @_;
    my @lines = split /\n/, $nginx->read_file('nginx.conf');
    my $mark = $more eq 'http' ? qr/^    vidgen_database/ : qr/^        listen/;
    my ($i) = grep { $lines[$_] =~ $mark } 0 .. $#lines;
    return $i + 1 + ($more eq 'http' ? 0 : 1 + $more);
}
