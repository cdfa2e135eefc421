# sign SELECTOR=ALGORITHM=KEYFILE...: signs the message on standard input for
# example.org by each key in all canonicalizations, and writes the signatures' fields.
# verify ZONE: says the result of each signature of the message on standard input.
# ZONE is a file of JSON: names to texts.
use strict;
use warnings;
use JSON::PP;
use Mail::DKIM::DNS;
use Mail::DKIM::PrivateKey;
use Mail::DKIM::Signer;
use Mail::DKIM::Verifier;
use Net::DNS::RR;

binmode STDIN;
binmode STDOUT;
my $message = do { local $/; <STDIN> };
my $command = shift @ARGV;
if ($command eq 'sign') {
    for my $argument (@ARGV) {
        my ($selector, $algorithm, $file) = split /=/, $argument, 3;
        for my $c ('simple/simple', 'simple/relaxed', 'relaxed/simple', 'relaxed/relaxed') {
            my $dkim = Mail::DKIM::Signer->new(
                Algorithm => $algorithm, Method => $c, Domain => 'example.org', Selector => $selector,
                Key       => Mail::DKIM::PrivateKey->load(File => $file));
            $dkim->PRINT($message);
            $dkim->CLOSE;
            print $dkim->signature->as_string, "\015\012";
        }
    }
} else {
    open my $f, '<', $ARGV[0] or die;
    my $zone = decode_json(do { local $/; <$f> });
    no warnings 'redefine';
    *Mail::DKIM::DNS::query = sub {
        my ($name) = @_;
        $name =~ s/\.$//;
        my $text = $zone->{$name} or return;
        return Net::DNS::RR->new(owner => $name, type => 'TXT', txtdata => [unpack '(a200)*', $text]);
    };
    my $dkim = Mail::DKIM::Verifier->new;
    $dkim->PRINT($message);
    $dkim->CLOSE;
    for my $signature ($dkim->signatures) {
        print $signature->result, "\n";
        print STDERR $signature->result_detail, "\n";
    }
}
